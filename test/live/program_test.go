//go:build linux

package live

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// session is a running closetrace.
type session struct {
	*exec.Cmd
	mode   string   // the attach mode that it uses
	stdout *os.File // a pipe that only the test reads
	stderr *bufio.Reader
}

// launch starts closetrace for the namespace of the calling thread, with a pipe
// for its output.
func launch(t testing.TB, args ...string) *session {
	t.Helper()
	return launchIn(t, threadNetns(), args...)
}

// threadNetns returns the path of the calling thread's namespace.
func threadNetns() string {
	return fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
}

// launchIn is launch for another namespace.
func launchIn(t testing.TB, netns string, args ...string) *session {
	t.Helper()
	stdout, w, err := os.Pipe()
	must(t, err)
	defer w.Close()
	t.Cleanup(func() { stdout.Close() })
	r := launchTo(t, w, append(args, "--netns", netns)...)
	r.stdout = stdout
	return r
}

// launchTo starts closetrace outside of the namespace of the calling thread, and
// returns when it has attached.
func launchTo(t testing.TB, stdout *os.File, args ...string) *session {
	t.Helper()
	privileged(t)
	path, err := program()
	must(t, err)
	r := &session{Cmd: exec.Command(path, append(args, "--attach", *attach)...)}
	r.Stdout = stdout
	stderr, err := r.StderrPipe()
	must(t, err)
	r.stderr = bufio.NewReader(stderr)
	started := make(chan error)
	go func() { started <- r.Start() }() // by another thread
	must(t, <-started)
	t.Cleanup(func() {
		if r.ProcessState == nil { // the test gave up on it
			must(t, r.Process.Signal(syscall.SIGCONT))
			r.interrupt(t)
		}
	})
	for {
		line, err := r.stderr.ReadString('\n')
		if err != nil {
			t.Fatalf("closetrace does not start: %s%v", line, err)
		}
		if strings.HasPrefix(line, "closetrace: tracing on ") {
			_, by, _ := strings.Cut(line, " by ")
			r.mode, _, _ = strings.Cut(by, ";")
			return r
		}
	}
}

// whileStopped stops the process with SIGSTOP while f runs.
func (r *session) whileStopped(t testing.TB, f func()) {
	t.Helper()
	must(t, r.Process.Signal(syscall.SIGSTOP))
	eventually(t, "closetrace stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.Process.Pid))
		_, after, _ := strings.Cut(string(stat), ") ")
		return err == nil && strings.HasPrefix(after, "T")
	})
	f()
	must(t, r.Process.Signal(syscall.SIGCONT))
}

// interrupt ends closetrace, and returns its exit code and what it printed to
// standard error since it attached.
func (r *session) interrupt(t testing.TB) (code int, output string) {
	t.Helper()
	must(t, r.Process.Signal(os.Interrupt))
	timer := time.AfterFunc(30*time.Second, func() { r.Process.Signal(syscall.SIGQUIT) })
	defer timer.Stop()
	rest, err := io.ReadAll(r.stderr)
	must(t, err)
	countMissed(t, uint64(missed(string(rest))))
	return waitExit(t, r.Cmd), string(rest)
}

// line has the fields of an ending in JSON that tests compare.
type line struct {
	MonoNS     uint64 `json:"mono_ns"`
	Path       string
	Cause      string
	Confidence string
	Trigger    string
	Local      string
	Remote     string
	Actor      lineTask
	Owner      lineTask
	OwnerBy    string `json:"owner_by"`
	Peer       struct{ Actor lineTask }
	FIN, RST   bool
}

type lineTask struct {
	PID     uint32
	Comm    string
	Process string
}

// collect reads endings until standard output ends.
func (r *session) collect() <-chan []line {
	result := make(chan []line, 1)
	go func() {
		var all []line
		for s := bufio.NewScanner(r.stdout); s.Scan(); {
			var l line
			if json.Unmarshal(s.Bytes(), &l) == nil { // the last may be cut
				all = append(all, l)
			}
		}
		result <- all
	}()
	return result
}

// outputFile returns a file for output that no slow reader may delay.
func outputFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "endings"))
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// countLines counts the endings in a file of -o json that match by their path and
// by what follows it in the line.
func countLines(t testing.TB, f *os.File, is func(path, after string) bool) (n int) {
	t.Helper()
	info, err := f.Stat()
	must(t, err)
	for s := bufio.NewScanner(io.NewSectionReader(f, 0, info.Size())); s.Scan(); {
		_, rest, _ := strings.Cut(s.Text(), `"path":"`)
		path, after, _ := strings.Cut(rest, `"`)
		if is(path, after) {
			n++
		}
	}
	return n
}

// countBefore returns the number before a text in the summary, or 0 without that
// text.
func countBefore(stderr, text string) int {
	for l := range strings.Lines(strings.ReplaceAll(stderr, ",", "")) {
		if before, _, ok := strings.Cut(l, text); ok {
			words := strings.Fields(before)
			n, _ := strconv.Atoi(words[len(words)-1])
			return n
		}
	}
	return 0
}

func lost(stderr string) int {
	return countBefore(stderr, " records lost") + countBefore(stderr, " record lost")
}
func missed(stderr string) int {
	return countBefore(stderr, " probes missed") + countBefore(stderr, " probe missed")
}

// emulated reports whether this is the microVM of test/vm, whose processor is
// emulated and some thirty times slower.
func emulated() bool {
	name, err := os.Hostname()
	return err == nil && name == "closetrace-vm"
}

// scaled returns the amount of work for a test: less on an emulated processor.
func scaled(here, emulation int) int {
	if emulated() {
		return emulation
	}
	return here
}

// closeUnconnected closes n sockets that were never connected. Each has exactly
// one event and no segment.
func closeUnconnected(t testing.TB, n int) {
	t.Helper()
	for range n {
		must(t, unix.Close(socket(t, loopback4)))
	}
}

// resets resets n connections.
func resets(t testing.TB, n int) {
	t.Helper()
	l, addr := listen(t, loopback4)
	for range n {
		a, b := connect(t, l, addr)
		a.linger(t, 0)
		must(t, unix.Close(a.fd))
		must(t, unix.Close(b.fd))
	}
	must(t, unix.Close(l))
}

// checkPrintable fails if the output has control characters.
func checkPrintable(t testing.TB, what string, out []byte) {
	t.Helper()
	for i, r := range string(out) {
		if r != '\n' && (r == utf8.RuneError && out[i] != 0xef || !unicode.IsPrint(r)) {
			t.Errorf("%s: %U reaches the terminal in %q", what, r, out[max(0, i-100):min(len(out), i+100)])
			return
		}
	}
}
