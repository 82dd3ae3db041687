//go:build linux

package live

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/explain"
)

// The command of the topic call-chain shows the kernel's own stack, and that has
// the functions of the chain. It runs with a tracefs of its own, for machines
// that have not mounted one.
func TestCallChainOfThisKernel(t *testing.T) {
	privileged(t)
	for _, tool := range []string{"python3", "unshare", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the command is for python3, in a mount namespace: %v", err)
		}
	}
	_, topics, err := explain.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range topics {
		if p.Name != "call-chain" {
			continue
		}
		command, ok := strings.CutPrefix(p.Command("stack"), "sudo ")
		if !ok {
			t.Fatalf("not for sudo: %s", command)
		}
		script := "mount -t tracefs none /sys/kernel/tracing && " + command
		out, err := exec.Command("unshare", "--mount", "sh", "-c", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, function := range []string{"__tcp_close", "tcp_close", "inet_release", "sock_close", "__fput"} {
			if !strings.Contains(string(out), " => "+function+"\n") {
				t.Errorf("no %s in\n%s", function, out)
			}
		}
		return
	}
	t.Fatal("no topic call-chain")
}
