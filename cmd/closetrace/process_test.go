package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
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
	timer := time.AfterFunc(10*time.Second, func() {
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

// Every line is whole, and the summary counts exactly those that came out.
func TestSignalLosesNothing(t *testing.T) {
	p := start(t, "closetrace-flood", "-o", "json")
	read := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(p.stdout)
		read <- all
	}()
	time.Sleep(100 * time.Millisecond)
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

// A reader that takes nothing does not keep closetrace from detaching.
func TestStalledOutputDoesNotHoldTheEnd(t *testing.T) {
	p := start(t, "closetrace-flood", "-o", "json")
	time.Sleep(300 * time.Millisecond) // the pipe is full
	begin := time.Now()
	p.signal(t, syscall.SIGINT)
	code, said := p.ended(t)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if code != exitFailed || !strings.HasPrefix(said, "closetrace: standard output takes no data") {
		t.Errorf("exit code %d, said:\n%s", code, said)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	p := start(t, "closetrace-flood", "-o", "json")
	time.Sleep(300 * time.Millisecond) // the pipe is full
	p.signal(t, syscall.SIGINT)
	time.Sleep(200 * time.Millisecond)
	p.signal(t, syscall.SIGINT)
	code, _ := p.ended(t)
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
