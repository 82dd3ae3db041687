//go:build linux

package live

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// closeInFunctions closes both ends of a connection, in functions that the stacks contain, and once more for each line
// on standard input.
func closeInFunctions([]string) error {
	for lines := bufio.NewScanner(os.Stdin); ; {
		d, err := newListener(loopback4)
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
		fmt.Println("ready")
		if !lines.Scan() {
			return nil
		}
	}
}

// callsOfRound is the number of calls of each round of closeInFunctions.
const callsOfRound = 4

//go:noinline
func closesHere(fd int) { _ = unix.Close(fd) }

//go:noinline
func shutsDownHere(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) }

// With --stack each call has the stack of the program and of the kernel; a
// recording has them, too.
func TestStack(t *testing.T) { attempts(t, stackOfCalls) }

func stackOfCalls(t testing.TB) {
	file := filepath.Join(t.TempDir(), "stacks.jsonl")
	out, rounds := traceRounds(t, file)
	calls, named := map[string]int{}, map[string]int{}
	for line := range strings.Lines(string(out)) {
		call, isNamed := checkStackOf(t, line)
		calls[call]++
		if isNamed {
			named[call]++
		}
	}
	if calls["close"] != 3*rounds || calls["shutdown"] != rounds || named["close"] < 3 || named["shutdown"] < 1 {
		t.Errorf("%d rounds, calls: %v, with the function: %v; at first:\n%.4000s", rounds, calls, named, out)
	}
	t.Logf("%d rounds", rounds)
	path, err := program()
	must(t, err)
	again, err := exec.Command(path, "replay", "-o", "json", file).Output()
	must(t, err)
	if string(again) != string(out) {
		t.Errorf("replayed\n%.4000s\ninstead of\n%.4000s", again, out)
	}
}

// traceRounds prints and records calls with their stacks, round by round until the functions of one are named.
func traceRounds(t testing.TB, file string) (out []byte, rounds int) {
	t.Helper()
	inNetns(t, func(uint32) {
		r := launch(t, "--stack", "-o", "json", "-w", file)
		a := startChild(t, "deep")
		lines := bufio.NewReader(r.stdout)
		rounds = 1
		// Names that come too late for an ending are there for a later one at the same place.
		closes, shutdowns := 0, 0
		eventually(t, "the functions are named", func() bool {
			for calls := 0; calls < callsOfRound; {
				line, err := lines.ReadBytes('\n')
				must(t, err)
				out = append(out, line...)
				if bytes.Contains(line, []byte(`"actor"`)) {
					calls++
				}
				closes += bytes.Count(line, []byte("live.closesHere ("))
				shutdowns += bytes.Count(line, []byte("live.shutsDownHere ("))
			}
			if closes >= 3 && shutdowns >= 1 {
				return true
			}
			rounds++
			_, err := a.stdin.Write([]byte("\n"))
			must(t, err)
			return false
		})
		a.exit(t) // not before its stacks are named
		code, stderr := r.interrupt(t)
		rest, err := io.ReadAll(lines)
		must(t, err)
		out = append(out, rest...)
		if code != 0 {
			t.Errorf("exit code %d, standard error:\n%s", code, stderr)
		}
	})
	return out, rounds
}

// checkStackOf checks the stack of a line, and returns the call that it is of, "" for none, and whether its function is
// named.
func checkStackOf(t testing.TB, line string) (call string, isNamed bool) {
	t.Helper()
	var e struct {
		Path, Trigger string
		Actor         *struct{ PID uint32 }
		Stack         *struct {
			User, Kernel []string
			Unresolved   int
		}
	}
	must(t, json.Unmarshal([]byte(line), &e))
	if e.Stack == nil {
		if e.Actor != nil {
			t.Errorf("no stack: %s", line)
		}
		return "", false
	}
	function := map[string]string{"close": "live.closesHere (", "shutdown": "live.shutsDownHere ("}[e.Trigger]
	isNamed = slices.ContainsFunc(e.Stack.User, func(frame string) bool {
		return strings.Contains(frame, function) && strings.Contains(frame, "stack_test.go:")
	})
	if function == "" || !isNamed && e.Stack.Unresolved == 0 {
		t.Errorf("%s: no %q in %q", e.Path, function, e.Stack.User)
	}
	// The first one is what closetrace sits on, or what calls the tracepoint.
	first := regexp.MustCompile(`^(__)?(tcp|inet)_`)
	if *attach != "tracepoint" {
		first = regexp.MustCompile(`^[^b]|^b[^p]`) // not closetrace itself
	}
	if len(e.Stack.Kernel) < 3 || !first.MatchString(e.Stack.Kernel[0]) ||
		!slices.ContainsFunc(e.Stack.Kernel, func(name string) bool {
			return name == "inet_release" || strings.HasSuffix(name, "sys_shutdown")
		}) {
		t.Errorf("%s: kernel stack %q", e.Path, e.Stack.Kernel)
	}
	return e.Trigger, isNamed
}
