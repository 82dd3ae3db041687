//go:build linux

package live

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/explain"
)

// containerShell is a shell script that runs another one, its argument, as root of a container sees it: with mounts,
// processes and a network of its own, and without tracefs.
const containerShell = `
mount -t tmpfs none /sys/kernel/tracing
ip link set lo up
exec sh -c "$1"`

// Each command of a topic runs in a container as it is printed, without sudo.
func TestExperimentsInContainer(t *testing.T) {
	privileged(t)
	for _, tool := range []string{"python3", "ss", "ip", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the experiments need %s: %v", tool, err)
		}
	}
	path, err := program()
	must(t, err)
	_, topics, err := explain.All()
	must(t, err)
	for _, p := range topics {
		experiments := experimentsOf(p)
		if len(experiments) == 0 {
			t.Errorf("%s has no experiment", p.Name)
		}
		for name, command := range experiments {
			t.Run(p.Name+"/"+name, func(t *testing.T) {
				script := "closetrace() { '" + path + `' "$@"; }` + "\n" + strings.TrimPrefix(command, "sudo ")
				out, err := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc",
					"sh", "-c", containerShell, "sh", script).CombinedOutput()
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				if p.Name == "call-chain" && name == "stack" {
					checkStack(t, string(out))
				}
			})
		}
	}
}

// experimentsOf returns the commands of a topic by name: those to copy, and the lines that begin with sudo.
func experimentsOf(p *explain.Page) map[string]string {
	experiments := map[string]string{}
	for _, name := range p.Commands() {
		experiments[name] = p.Command(name)
	}
	for line := range strings.Lines(p.Text(explain.Layout{Language: explain.English})) {
		if command := strings.TrimSpace(line); strings.HasPrefix(line, "    sudo ") {
			experiments[command] = command
		}
	}
	return experiments
}

// checkStack fails the test unless the kernel's stack has the functions that the topic call-chain names.
func checkStack(t *testing.T, out string) {
	t.Helper()
	for _, function := range []string{"__tcp_close", "tcp_close", "inet_release", "sock_close", "__fput"} {
		if !strings.Contains(out, " => "+function+"\n") {
			t.Errorf("no %s in\n%s", function, out)
		}
	}
}
