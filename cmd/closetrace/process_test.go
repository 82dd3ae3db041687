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

	"golang.org/x/sys/unix"
)

// program is a running closetrace with made-up facts.
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
	if err != nil || !strings.HasPrefix(line, "closetrace: tracing on ") {
		t.Fatalf("not ready: %q, %v", line, err)
	}
	return p
}

// ended waits for the end, which has to come soon, and returns the exit code
// (-1 for a signal) and what was still said on standard error.
func (p *program) ended(t *testing.T) (code int, said string) {
	t.Helper()
	timer := time.AfterFunc(time.Minute, func() {
		t.Error("it does not end")
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

func TestSignalEndsInGoodOrder(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		p := start(t, "closetrace-fake", "-o", "json")
		out := bufio.NewReader(p.stdout)
		for range 3 { // written while it runs, not at the end
			if _, err := out.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		p.signal(t, sig)
		code, said := p.ended(t)
		if code != exitOK || !strings.Contains(said, "\n3 endings in ") {
			t.Errorf("%v: exit code %d, said:\n%s", sig, code, said)
		}
	}
}

// filled waits until a pipe takes no more; of it is its end to read from.
func filled(t *testing.T, of *os.File) {
	t.Helper()
	w, err := os.OpenFile("/proc/self/fd/"+itoa(int(of.Fd())), os.O_WRONLY, 0)
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

// Every line is whole, and the summary counts exactly those that came out.
func TestSignalLosesNothing(t *testing.T) {
	p := start(t, "closetrace-flood", "-o", "json")
	first := make([]byte, 1<<20) // and so more than the pipe holds
	if _, err := io.ReadFull(p.stdout, first); err != nil {
		t.Fatal(err)
	}
	read := make(chan []byte)
	go func() {
		rest, _ := io.ReadAll(p.stdout)
		read <- append(first, rest...)
	}()
	p.signal(t, syscall.SIGINT)
	code, said := p.ended(t)
	out := <-read
	lines := bytes.Count(out, []byte("\n"))
	if code != exitOK || lines == 0 || !bytes.HasSuffix(out, []byte("}\n")) {
		t.Errorf("exit code %d after %d lines", code, lines)
	}
	said = strings.ReplaceAll(said, ",", "")
	if want := "\n" + itoa(lines) + " endings in "; !strings.Contains(said, want) {
		t.Errorf("%d lines; said:\n%s", lines, said)
	}
}

// A reader that has gone away is no failure, whether endings come or not.
func TestClosedPipeEndsQuietly(t *testing.T) {
	for _, name := range []string{"closetrace-flood", "closetrace-fake"} {
		p := start(t, name, "-o", "json")
		if _, err := bufio.NewReader(p.stdout).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		p.stdout.Close()
		code, said := p.ended(t)
		if code != exitOK || strings.Count(said, "\n") != 1 {
			t.Errorf("%s: exit code %d, said:\n%s", name, code, said)
		}
	}
}

// A reader that takes nothing does not hold up the end, and what it did not get
// is told. A record has it all.
func TestStalledOutputDoesNotHoldTheEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run.rec")
	p := start(t, "closetrace-flood", "-o", "json", "-w", file)
	filled(t, p.stdout)
	p.signal(t, syscall.SIGINT)
	code, said := p.ended(t)
	if code != exitFailed || !strings.Contains(said, "\nclosetrace: writing to standard output: nobody takes the data\n") {
		t.Errorf("exit code %d, said:\n%s", code, said)
	}
	rest, err := io.ReadAll(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	got, told, unwritten := bytes.Count(rest, []byte("\n")), number(said, " endings in"), number(said, " endings not written")
	if got == 0 || got > told || told > got+unwritten {
		t.Errorf("%d of %d endings came, at most %d are said to be missing", got, told, unwritten)
	}
	again, err := exec.Command("closetrace", "replay", "-o", "json", file).Output()
	if err != nil || bytes.Count(again, []byte("\n")) != told {
		t.Errorf("%d of %d endings are in the record: %v", bytes.Count(again, []byte("\n")), told, err)
	}
}

// number is the one before a text.
func number(said, text string) int {
	before, _, _ := strings.Cut(strings.ReplaceAll(said, ",", ""), text)
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

// A pager may take its time: all that was traced waits for it.
func TestSlowReaderGetsAll(t *testing.T) {
	p := start(t, "closetrace-flood", "-o", "json", "--duration", "100ms")
	time.Sleep(2 * time.Second) // longer than anybody is waited for after a signal
	rest, err := io.ReadAll(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	code, said := p.ended(t)
	if got := bytes.Count(rest, []byte("\n")); code != exitOK || got == 0 || got != number(said, " endings in") {
		t.Errorf("exit code %d, %d lines, said:\n%s", code, got, said)
	}
}

// Nor does a record into a pipe that nobody reads.
func TestStalledRecordDoesNotHoldTheEnd(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	nobody, err := os.OpenFile(fifo, os.O_RDWR, 0) // somebody has it open
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	p := start(t, "closetrace-flood", "-o", "json", "-w", fifo)
	go io.Copy(io.Discard, p.stdout)
	filled(t, nobody)
	p.signal(t, syscall.SIGINT)
	code, said := p.ended(t)
	if code != exitFailed || strings.Contains(said, "not written") ||
		!strings.Contains(said, "\nclosetrace: recording to "+fifo+": ") || !strings.HasSuffix(said, ": nobody takes the data\n") {
		t.Errorf("exit code %d, said:\n%s", code, said)
	}
}

// A stopped terminal takes nothing from either output, so that the end cannot
// even be told.
func TestStoppedTerminalDoesNotHoldTheEnd(t *testing.T) {
	master, slave := terminal(t)
	cmd := exec.CommandContext(t.Context(), "closetrace-flood")
	cmd.Stdout, cmd.Stderr = slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(master).ReadString('\n'); err != nil || !strings.HasPrefix(line, "closetrace: tracing on ") {
		t.Fatalf("not ready: %q, %v", line, err)
	}
	if err := unix.IoctlSetInt(int(slave.Fd()), unix.TCXONC, unix.TCOOFF); err != nil { // Ctrl-S
		t.Fatal(err)
	}
	p := &program{Cmd: cmd, stderr: bufio.NewReader(strings.NewReader(""))}
	p.signal(t, syscall.SIGINT)
	if code, _ := p.ended(t); code != exitFailed {
		t.Errorf("exit code %d, %v", code, p.ProcessState)
	}
}

// terminal returns both sides of a pseudo-terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	open := func(path string) *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	master = open("/dev/ptmx")
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return master, open("/dev/pts/" + itoa(n))
}

// What was printed is in the record, even if closetrace is killed.
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
		if err == nil || replay.ProcessState.ExitCode() != exitIncomplete || string(again) != printed {
			t.Errorf("%s: printed\n%sreplayed\n%s%v", name, printed, again, err)
		}
	}
}

// timeout(1) signals the process, and its group, too.
func TestSignalTwiceAtOnceIsOne(t *testing.T) {
	p := start(t, "closetrace-fake", "-o", "json")
	p.signal(t, syscall.SIGSTOP)
	p.signal(t, syscall.SIGINT)
	// One for the process and one for its thread are two, even at the same moment.
	if err := unix.Tgkill(p.Process.Pid, p.Process.Pid, unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGCONT)
	if code, said := p.ended(t); code != 0 || !strings.Contains(said, "records lost") {
		t.Errorf("exit code %d, said:\n%s", code, said)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	p := start(t, "closetrace-flood", "-o", "json")
	filled(t, p.stdout)
	over := make(chan struct{})
	go func() {
		for ; ; time.Sleep(sameSignal / 2) { // the first of them is the same signal still
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
		t.Skip(err)
	}
	defer full.Close()
	cmd := exec.Command("closetrace-fake", "-o", "json")
	cmd.Stdout = full
	var said strings.Builder
	cmd.Stderr = &said
	_ = cmd.Run() // its exit code is looked at below
	if cmd.ProcessState.ExitCode() != exitFailed ||
		!strings.Contains(said.String(), "\nclosetrace: writing to standard output: write /dev/stdout: no space left on device\n") {
		t.Errorf("exit code %d, said:\n%s", cmd.ProcessState.ExitCode(), &said)
	}
}
