//go:build linux

package live

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// closeDeep ends both ends of a connection from functions that a stack tells.
func closeDeep([]string) error {
	d, err := openDoor(loopback4)
	if err != nil {
		return err
	}
	ours, theirs, err := d.pair()
	if err != nil {
		return err
	}
	shutsDownHere(ours)
	closesHere(ours)
	closesHere(theirs)
	closesHere(d.fd)
	ready()
	return nil
}

//go:noinline
func closesHere(fd int) { _ = unix.Close(fd) }

//go:noinline
func shutsDownHere(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) }

// With --stack each call tells where it came from: the line of the program, and
// the kernel's functions; a record has it, too.
func TestStack(t *testing.T) { attempts(t, stackOfCalls) }

func stackOfCalls(t testing.TB) {
	file := filepath.Join(t.TempDir(), "stacks.jsonl")
	var out []byte
	inNetns(t, func(uint32) {
		r := launch(t, "--stack", "-o", "json", "-w", file)
		a := act(t, "deep")
		for lines := bufio.NewReader(r.stdout); strings.Count(string(out), `"actor"`) < 4; {
			line, err := lines.ReadBytes('\n')
			must(t, err)
			out = append(out, line...)
		}
		a.leave(t) // not before its stacks are named
		code, said := r.interrupt(t)
		rest, err := io.ReadAll(r.stdout)
		must(t, err)
		out = append(out, rest...)
		if code != 0 {
			t.Errorf("exit code %d, said:\n%s", code, said)
		}
	})
	calls := map[string]int{}
	for line := range strings.Lines(string(out)) {
		var e struct {
			Path, Trigger string
			Actor         *struct{ PID uint32 }
			Stack         *struct{ User, Kernel []string }
		}
		must(t, json.Unmarshal([]byte(line), &e))
		if e.Stack == nil {
			if e.Actor != nil {
				t.Errorf("no stack: %s", line)
			}
			continue
		}
		function := map[string]string{"close": "live.closesHere (", "shutdown": "live.shutsDownHere ("}[e.Trigger]
		named := slices.ContainsFunc(e.Stack.User, func(frame string) bool {
			return strings.Contains(frame, function) && strings.Contains(frame, "stack_test.go:")
		})
		if function == "" || !named {
			t.Errorf("%s: no %q in %q", e.Path, function, e.Stack.User)
		}
		// The first one is what closetrace sits on, or what calls the tracepoint.
		first := regexp.MustCompile(`^(__)?(tcp|inet)_`)
		if *attach != "tracepoint" {
			first = regexp.MustCompile(`^[^b]|^b[^p]`) // not closetrace itself
		}
		if len(e.Stack.Kernel) < 3 || !first.MatchString(e.Stack.Kernel[0]) || !slices.ContainsFunc(e.Stack.Kernel, func(name string) bool {
			return name == "inet_release" || strings.HasSuffix(name, "sys_shutdown")
		}) {
			t.Errorf("%s: kernel stack %q", e.Path, e.Stack.Kernel)
		}
		calls[e.Trigger]++
	}
	if calls["close"] != 3 || calls["shutdown"] != 1 {
		t.Errorf("calls with a stack: %v\n%s", calls, out)
	}
	path, err := program()
	must(t, err)
	again, err := exec.Command(path, "replay", "-o", "json", file).Output()
	must(t, err)
	if string(again) != string(out) {
		t.Errorf("replayed\n%s\ninstead of\n%s", again, out)
	}
}
