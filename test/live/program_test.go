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

// session is closetrace at work, as a process.
type session struct {
	*exec.Cmd
	stdout *os.File // a pipe that nobody reads unless the test does
	stderr *bufio.Reader
}

// launch starts closetrace with what happens in the namespace of the calling
// thread, and a pipe for its output.
func launch(t testing.TB, args ...string) *session {
	t.Helper()
	return launchIn(t, threadNetns(), args...)
}

// threadNetns is the namespace of the calling thread.
func threadNetns() string {
	return fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
}

// launchIn is launch with another namespace.
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

// launchTo starts closetrace, not in the namespace of the calling thread. It is
// attached when launchTo returns.
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
			return r
		}
	}
}

// stopped stops the process, as by SIGSTOP, while f runs.
func (r *session) stopped(t testing.TB, f func()) {
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

// interrupt ends it, and returns what it said since it began to trace.
func (r *session) interrupt(t testing.TB) (code int, said string) {
	t.Helper()
	must(t, r.Process.Signal(os.Interrupt))
	timer := time.AfterFunc(30*time.Second, func() { r.Process.Signal(syscall.SIGQUIT) })
	defer timer.Stop()
	rest, err := io.ReadAll(r.stderr)
	must(t, err)
	countMissed(t, uint64(missed(string(rest))))
	return ends(t, r.Cmd), string(rest)
}

// line is an ending of -o json, as far as tests look at it.
type line struct {
	Path    string
	Trigger string
	Local   string
	Remote  string
	Actor   struct {
		PID  uint32
		Comm string
	}
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

// outputFile is for the output of a program that no reader may hold up.
func outputFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "endings"))
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// countLines counts the endings in a file of -o json by their path, and what is
// in the line after it.
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

// told is the number that stands before a text in the summary; 0 if it is not
// there.
func told(said, text string) int {
	for l := range strings.Lines(strings.ReplaceAll(said, ",", "")) {
		if before, _, ok := strings.Cut(l, text); ok {
			words := strings.Fields(before)
			n, _ := strconv.Atoi(words[len(words)-1])
			return n
		}
	}
	return 0
}

func lost(said string) int   { return told(said, " records lost") + told(said, " record lost") }
func missed(said string) int { return told(said, " probes missed") + told(said, " probe missed") }

// emulated tells whether this is the microVM of test/vm, whose processor is
// emulated and some thirty times slower.
func emulated() bool {
	name, err := os.Hostname()
	return err == nil && name == "closetrace-vm"
}

// load is how much a test does: less where the processor is emulated.
func load(here, emulation int) int {
	if emulated() {
		return emulation
	}
	return here
}

// bare closes n sockets that were never connected: of each exactly one fact is
// reported, and nothing goes on the wire.
func bare(t testing.TB, n int) {
	t.Helper()
	for range n {
		must(t, unix.Close(socket(t, loopback4)))
	}
}

// resets resets n connections.
func resets(t testing.TB, n int) {
	t.Helper()
	l, at := listen(t, loopback4)
	for range n {
		a, b := connect(t, l, at)
		a.linger(t, 0)
		must(t, unix.Close(a.fd))
		must(t, unix.Close(b.fd))
	}
	must(t, unix.Close(l))
}

// tame: nothing in it is a command to a terminal.
func tame(t testing.TB, what string, out []byte) {
	t.Helper()
	for i, r := range string(out) {
		if r != '\n' && (r == utf8.RuneError && out[i] != 0xef || !unicode.IsPrint(r)) {
			t.Errorf("%s: %U reaches the terminal in %q", what, r, out[max(0, i-100):min(len(out), i+100)])
			return
		}
	}
}
