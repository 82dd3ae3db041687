//go:build linux

package live

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// maxAgain limits how many failed tests of a run get a second try. More are no accident.
const maxAgain = 2

// runsTests is set in the process that runs the tests.
const runsTests = "CLOSETRACE_RUNS_TESTS"

// runTwice runs the tests of this program in a child, and those that failed in a second one, alone. The guests of
// the matrix are emulated, two at a time on two CPUs, and a test that waits for another process may lose its CPU for
// longer than it waits. A fault of closetrace fails twice. Each second try is a retry in the report, which limits them.
func runTwice() int {
	// A signal for the group ends the child, whose last words are to be copied.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	code, failed := runChosen(os.Stdout, os.Args[1:])
	if code == 0 || len(failed) == 0 || len(failed) > maxAgain {
		return code
	}
	fmt.Printf("=== AGAIN %s\n", strings.Join(failed, " "))
	chosen := "-test.run=^(" + strings.Join(failed, "|") + ")$"
	code, _ = runChosen(os.Stdout, append(slices.Clone(os.Args[1:]), chosen, "-test.skip="), "CLOSETRACE_REPORT=")
	if code != 0 {
		return code
	}
	if err := reportAgain(os.Getenv("CLOSETRACE_REPORT"), failed); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	return 0
}

// runChosen runs tests in a child, copies its output and returns its exit code with the names of those that failed.
func runChosen(out io.Writer, args []string, env ...string) (code int, failed []string) {
	runtime.LockOSThread() // Pdeathsig looks at the thread
	defer runtime.UnlockOSThread()
	self, err := os.Executable() // by its name: the tests start others by /proc/self/exe, which are to have another
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1, nil
	}
	r, w := io.Pipe()
	child := exec.Command(self, args...)
	child.Args[0] = os.Args[0]
	child.Env = append(append(os.Environ(), runsTests+"=1"), env...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, io.MultiWriter(out, w), os.Stderr
	child.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	child.WaitDelay = 10 * time.Second // for a process that a failed test left, with the child's output open
	names := make(chan []string)
	go func() { names <- failedTests(r) }()
	err = child.Run()
	w.Close()
	failed = <-names
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode(), failed
	case err != nil:
		fmt.Fprintln(os.Stderr, "FAIL: the tests:", err)
		return 1, nil
	}
	return 0, failed
}

var failLine = regexp.MustCompile(`^--- FAIL: (Test\w+) `)

// failedTests returns the tests that failed, out of what the testing package prints.
func failedTests(r io.Reader) (failed []string) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if m := failLine.FindStringSubmatch(line); m != nil && !slices.Contains(failed, m[1]) {
			failed = append(failed, m[1])
		}
		if err != nil {
			return failed
		}
	}
}

// reportAgain adds the tests that passed at their second try to the retries of the report in path.
func reportAgain(path string, tests []string) error {
	var r guest.Report
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &r); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	for _, test := range tests {
		fmt.Printf("    %s: %s\n", test, guest.Again)
		r.Retries = append(r.Retries, guest.Retry{Test: test, Reason: guest.Again})
	}
	if path == "" {
		return nil
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path, text, 0o644), r.CheckRetries())
}

// againHelper is the environment variable whose value chooses how TestAgainHelper behaves.
const againHelper = "CLOSETRACE_AGAIN_HELPER"

// TestAgainHelper fails as the environment wants, for TestAgain.
func TestAgainHelper(t *testing.T) {
	switch how := os.Getenv(againHelper); how {
	case "":
		t.Skip("TestAgain runs it")
	case "always":
		t.Error("as always")
	default: // fails once: the name of a file that it leaves
		if _, err := os.Stat(how); err != nil {
			if err := os.WriteFile(how, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			t.Error("only once")
		}
	}
}

// A test that fails once passes, and is counted; one that fails twice fails the run.
func TestAgain(t *testing.T) {
	for _, tt := range []struct {
		name, how string
		code      int
		retries   int
	}{
		{"once", t.TempDir() + "/failed", 0, 1},
		{"always", "always", 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := t.TempDir() + "/report.json"
			run := exec.Command("/proc/self/exe", "-test.v", "-test.run=^TestAgainHelper$")
			run.Env = append(os.Environ(), runsTests+"=", againHelper+"="+tt.how, "CLOSETRACE_REPORT="+path)
			out, err := run.CombinedOutput()
			if code := run.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("exit code %d (%v), not %d:\n%s", code, err, tt.code, out)
			}
			if !strings.Contains(string(out), "=== AGAIN TestAgainHelper\n") {
				t.Errorf("no second try:\n%s", out)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var r guest.Report
			if err := json.Unmarshal(text, &r); err != nil {
				t.Fatal(err)
			}
			if len(r.Retries) != tt.retries {
				t.Errorf("retries: %v", r.Retries)
			}
		})
	}
}
