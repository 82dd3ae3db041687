//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// program is a running closetrace with made-up events.
type program struct {
	*exec.Cmd
	stdout *os.File // to read from
	stderr *bufio.Reader
}

func start(t *testing.T, name string, args ...string) *program {
	t.Helper()
	p := &program{Cmd: exec.CommandContext(t.Context(), name, args...)}
	stdout, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdout.Close() })
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout, p.stdout, p.stderr = w, stdout, bufio.NewReader(stderr)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	line, err := p.stderr.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "closetrace: tracing ") {
		t.Fatalf("not ready: %q, %v", line, err)
	}
	return p
}

// ended waits for the process to exit, which it must soon, and returns the exit code
// (-1 for a signal) and the rest of standard error.
func (p *program) ended(t *testing.T) (code int, stderr string) {
	t.Helper()
	timer := time.AfterFunc(time.Minute, func() {
		t.Error("it does not exit")
		p.Process.Kill()
	})
	defer timer.Stop()
	rest, _ := io.ReadAll(p.stderr)
	err := p.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.ProcessState.ExitCode(), string(rest)
}

func (p *program) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func TestSignalEndsCleanly(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		p := start(t, "closetrace-fake", "-o", "json")
		out := bufio.NewReader(p.stdout)
		for range 3 { // written while it runs, not at the end
			if _, err := out.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		p.signal(t, sig)
		code, stderr := p.ended(t)
		if code != 0 || !strings.Contains(stderr, "\n3 endings in ") {
			t.Errorf("%v: exit code %d, stderr:\n%s", sig, code, stderr)
		}
	}
}

// filled waits until a pipe is full. It gets the end to read from.
func filled(t *testing.T, reader *os.File) {
	t.Helper()
	w, err := os.OpenFile("/proc/self/fd/"+itoa(int(reader.Fd())), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	poll := []unix.PollFd{{Fd: int32(w.Fd()), Events: unix.POLLOUT}}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if n, err := unix.Poll(poll, 0); err == nil && n == 0 {
			return
		}
	}
	t.Fatal("not full within 30 s")
}

// Every line is complete, and the summary counts exactly the lines that were written.
func TestSignalLosesNothing(t *testing.T) {
	p := start(t, "closetrace-flood", "-o", "json")
	first := make([]byte, 1<<20) // more than the pipe holds
	if _, err := io.ReadFull(p.stdout, first); err != nil {
		t.Fatal(err)
	}
	read := make(chan []byte)
	go func() {
		rest, _ := io.ReadAll(p.stdout)
		read <- append(first, rest...)
	}()
	p.signal(t, syscall.SIGINT)
	code, stderr := p.ended(t)
	out := <-read
	lines := bytes.Count(out, []byte("\n"))
	if code != 0 || lines == 0 || !bytes.HasSuffix(out, []byte("}\n")) {
		t.Errorf("exit code %d after %d lines", code, lines)
	}
	stderr = strings.ReplaceAll(stderr, ",", "")
	if want := "\n" + itoa(lines) + " endings in "; !strings.Contains(stderr, want) {
		t.Errorf("%d lines; stderr:\n%s", lines, stderr)
	}
}

// An output closed by its reader is no failure, whether endings follow or not.
func TestClosedPipeEndsQuietly(t *testing.T) {
	for _, name := range []string{"closetrace-flood", "closetrace-fake"} {
		p := start(t, name, "-o", "json")
		if _, err := bufio.NewReader(p.stdout).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		p.stdout.Close()
		code, stderr := p.ended(t)
		if code != 0 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit code %d, stderr:\n%s", name, code, stderr)
		}
	}
}

// A reader that reads nothing does not delay the end, and the summary counts what it did not get. A recording has
// every ending. The summary as JSON, which comes after them, does not wait for the reader either.
func TestStalledOutputDoesNotDelayTheEnd(t *testing.T) {
	for _, sums := range []string{"--json-summary=false", "--json-summary"} {
		file := filepath.Join(t.TempDir(), "run.rec")
		p := start(t, "closetrace-flood", "-o", "json", sums, "-w", file)
		filled(t, p.stdout)
		p.signal(t, syscall.SIGINT)
		code, stderr := p.ended(t)
		if code != 1 || !strings.Contains(stderr, "\nclosetrace: writing to standard output: no reader for 1s\n") {
			t.Errorf("%s: exit code %d, stderr:\n%s", sums, code, stderr)
		}
		rest, err := io.ReadAll(p.stdout)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(rest, []byte(`"kind":"summary"`)) {
			t.Errorf("%s: a summary follows a line that was cut off:\n%s", sums, lastLine(rest))
		}
		got := bytes.Count(rest, []byte("\n"))
		shown, unwritten := number(stderr, " endings in"), number(stderr, " endings not written")
		if got == 0 || got > shown || shown > got+unwritten {
			t.Errorf("%s: %d of %d endings were read, at most %d are reported as not written", sums, got, shown, unwritten)
		}
		again, err := exec.Command("closetrace", "replay", "-o", "json", file).Output()
		if err != nil || bytes.Count(again, []byte("\n")) != shown {
			t.Errorf("%s: %d of %d endings are in the recording: %v", sums, bytes.Count(again, []byte("\n")), shown, err)
		}
	}
}

// The same holds for a command that is traced: it ends by the signal, and closetrace with it.
func TestStalledOutputDoesNotDelayTheEndOfRun(t *testing.T) {
	fifo, stalled := stalledFIFO(t)
	p := start(t, "closetrace-flood", "run", "-o", "json", "--output-file", fifo, "--", "sleep", "600")
	filled(t, stalled)
	p.signal(t, syscall.SIGTERM)
	code, stderr := p.ended(t)
	if want := "\nclosetrace: write " + fifo + ": no reader for 1s\n"; code != 128+int(syscall.SIGTERM) ||
		!strings.Contains(stderr, want) || number(stderr, " endings not written") <= 0 {
		t.Errorf("exit code %d, stderr:\n%s", code, stderr)
	}
}

func lastLine(text []byte) []byte { return text[bytes.LastIndexByte(bytes.TrimSpace(text), '\n')+1:] }

// number returns the number before a text, or -1.
func number(stderr, text string) int {
	before, _, _ := strings.Cut(strings.ReplaceAll(stderr, ",", ""), text)
	words := strings.Fields(before)
	if len(words) == 0 {
		return -1
	}
	n, err := strconv.Atoi(words[len(words)-1])
	if err != nil {
		return -1
	}
	return n
}

// A slow reader, such as a pager, gets all that was traced.
func TestSlowReaderGetsAll(t *testing.T) {
	p := start(t, "closetrace-flood", "-o", "json", "--duration", "100ms")
	time.Sleep(2 * time.Second) // longer than a write may take after a signal
	rest, err := io.ReadAll(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	code, stderr := p.ended(t)
	if got := bytes.Count(rest, []byte("\n")); code != 0 || got == 0 || got != number(stderr, " endings in") {
		t.Errorf("exit code %d, %d lines, stderr:\n%s", code, got, stderr)
	}
}

// stalledFIFO returns a FIFO, and its end to read from, which nothing reads.
func stalledFIFO(t *testing.T) (path string, reader *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	return path, reader
}

// A recording into a pipe without a reader does not delay the end either.
func TestStalledRecordingDoesNotDelayTheEnd(t *testing.T) {
	fifo, stalled := stalledFIFO(t)
	p := start(t, "closetrace-flood", "-o", "json", "-w", fifo)
	go io.Copy(io.Discard, p.stdout)
	filled(t, stalled)
	p.signal(t, syscall.SIGINT)
	code, stderr := p.ended(t)
	if code != 1 || strings.Contains(stderr, "not written") ||
		!strings.Contains(stderr, "\nclosetrace: the recording "+fifo+" is incomplete: ") ||
		!strings.HasSuffix(stderr, ": no reader for 1s\nhint: closetrace replay shows what is in it\n") {
		t.Errorf("exit code %d, stderr:\n%s", code, stderr)
	}
}

// A stopped terminal accepts no output at all, not even the message about it.
func TestStoppedTerminalDoesNotDelayTheEnd(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	cmd := exec.CommandContext(t.Context(), "closetrace-flood")
	cmd.Stdout, cmd.Stderr = slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(master).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "closetrace: tracing on ") {
		t.Fatalf("not ready: %q, %v", line, err)
	}
	if err := unix.IoctlSetInt(int(slave.Fd()), unix.TCXONC, unix.TCOOFF); err != nil { // Ctrl-S
		t.Fatal(err)
	}
	p := &program{Cmd: cmd, stderr: bufio.NewReader(strings.NewReader(""))}
	p.signal(t, syscall.SIGINT)
	if code, _ := p.ended(t); code != 1 {
		t.Errorf("exit code %d, %v", code, p.ProcessState)
	}
}

// The terminal shows ^C where the cursor is. What follows begins on the next line, of a trace, of one that prints only
// the summary, and of a command that the key ends as well.
func TestInterruptKeyIsNotGlued(t *testing.T) {
	heedSignals(t)
	for _, args := range [][]string{{}, {"--summary"}, {"run", "--", "sleep", "600"}} {
		// On a busy machine closetrace may be first: the kernel sends the signal before it shows ^C.
		var screen string
		for range 5 {
			if screen = interruptedByKey(t, args...); strings.Contains(screen, "^C\r\n") {
				break
			}
		}
		_, after, found := strings.Cut(screen, "^C")
		if !found || !strings.HasPrefix(after, "\r\n") || !strings.Contains(after, "\n3 endings in ") {
			t.Errorf("%v: on the terminal:\n%q", args, screen)
		}
	}
}

// interruptedByKey returns what a terminal shows from Ctrl-C on.
func interruptedByKey(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "closetrace-fake", args...)
	cmd.Env = append(cmd.Environ(), "COLUMNS=120")
	master, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	screen := bufio.NewReader(master)
	line, err := screen.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "closetrace: tracing ") {
		t.Fatalf("%v: not ready: %q, %v", args, line, err)
	}
	if len(args) > 1 { // the command has started when its three endings are seen
		for seen := 0; seen < 3; {
			if line, err = screen.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, "close → FIN") {
				seen++
			}
		}
	}
	if _, err := master.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(screen) // until the program has closed the terminal, which is an error
	_ = cmd.Wait()
	return string(rest)
}

// What was printed is in the recording, even if closetrace is killed.
func TestKilledRecorderLeavesWhatItPrinted(t *testing.T) {
	for _, name := range []string{"run.jsonl", "run.zst"} {
		file := filepath.Join(t.TempDir(), name)
		p := start(t, "closetrace-fake", "-o", "json", "-w", file)
		out := bufio.NewReader(p.stdout)
		var printed string
		for range 3 {
			line, err := out.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			printed += line
		}
		p.signal(t, syscall.SIGKILL)
		p.ended(t)
		replay := exec.Command("closetrace", "replay", "-o", "json", file)
		again, err := replay.Output()
		if err == nil || replay.ProcessState.ExitCode() != 5 || string(again) != printed {
			t.Errorf("%s: printed\n%sreplayed\n%s%v", name, printed, again, err)
		}
	}
}

// timeout(1) signals both the process and its group.
func TestSignalTwiceAtOnceIsOne(t *testing.T) {
	p := start(t, "closetrace-fake", "-o", "json")
	p.signal(t, syscall.SIGSTOP)
	p.signal(t, syscall.SIGINT)
	// One for the process and one for its thread are two, even at the same moment.
	if err := unix.Tgkill(p.Process.Pid, p.Process.Pid, unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGCONT)
	if code, stderr := p.ended(t); code != 0 || !strings.Contains(stderr, "records lost") {
		t.Errorf("exit code %d, stderr:\n%s", code, stderr)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	p := start(t, "closetrace-flood", "-o", "json")
	filled(t, p.stdout)
	over := make(chan struct{})
	go func() {
		for ; ; time.Sleep(50 * time.Millisecond) { // the first of them count as the same signal
			select {
			case <-over:
				return
			default:
				_ = p.Process.Signal(syscall.SIGINT) // it may have ended
			}
		}
	}()
	code, _ := p.ended(t)
	close(over)
	if status := p.ProcessState.Sys().(syscall.WaitStatus); code != -1 || status.Signal() != syscall.SIGINT {
		t.Errorf("exit code %d, %v", code, p.ProcessState)
	}
}

func TestFullDiskIsAFailure(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cmd := exec.Command("closetrace-fake", "-o", "json")
	cmd.Stdout = full
	var stderr strings.Builder
	cmd.Stderr = &stderr
	_ = cmd.Run() // the exit code is checked below
	const want = "\nclosetrace: writing to standard output: write /dev/stdout: no space left on device\n"
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), want) {
		t.Errorf("exit code %d, stderr:\n%s", cmd.ProcessState.ExitCode(), &stderr)
	}
}

// No command opens the description of the terminal that the user names: a library would do so before main.
func TestTerminalDescriptionIsNotOpened(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Opening it would last until there is a writer.
	if err := unix.Mkfifo(filepath.Join(dir, "x", "xterm-mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "closetrace", "explain", "close.fin.active")
	cmd.Env = append(os.Environ(), "TERM=xterm-mine", "TERMINFO="+dir, "COLORTERM=", "NO_COLOR=", "TMUX=")
	cmd.Stdout, cmd.Stderr = slave, os.Stderr
	go func() { _, _ = io.Copy(io.Discard, master) }()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("with a description that blocks: %v", err)
	}
}

// SIGKILL leaves files that replay together, up to the last whole frame.
func TestKilledWhileRecordingToSeveralFiles(t *testing.T) {
	for n, end := range []string{".rec", ".rec.zst", ".jsonl"} {
		dir := t.TempDir()
		p := start(t, "closetrace-flood", "record", "-w", filepath.Join(dir, "a"+end), "-C", "64K", "-W", "5")
		deadline := time.Now().Add(30 * time.Second)
		for ; ; time.Sleep(time.Duration(n+1) * time.Millisecond) {
			files, err := filepath.Glob(filepath.Join(dir, "a-*")) // a file is there for a moment only
			if err == nil && len(files) > 0 && files[len(files)-1] >= filepath.Join(dir, "a-000010") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v after 30 s, %v", end, files, err)
			}
		}
		p.signal(t, syscall.SIGKILL)
		p.ended(t)
		files, err := filepath.Glob(filepath.Join(dir, "a-*"))
		if err != nil || len(files) < 4 || len(files) > 5 {
			t.Fatalf("files %v, %v", files, err)
		}
		replay := exec.CommandContext(t.Context(), "closetrace", append([]string{"replay", "-o", "json"}, files...)...)
		var stderr bytes.Buffer
		replay.Stderr = &stderr
		out, err := replay.Output()
		var exit *exec.ExitError
		truncated := errors.As(err, &exit) && exit.ExitCode() == 5
		if lines := bytes.Count(out, []byte("\n")); lines < 300 || err != nil && !truncated {
			t.Errorf("%s: %d lines, %v, %s", end, lines, err, &stderr)
		}
		if err == nil { // killed between two files
			continue
		}
		if want := "closetrace: " + files[len(files)-1] + " is "; !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: no %q in %s", end, want, &stderr)
		}
	}
}
