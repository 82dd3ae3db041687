package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// counting is a command that says how often it got SIGINT once it gets SIGTERM.
const counting = `n=0
trap 'n=$((n+1)); echo int' INT
trap 'echo got $n; exit 9' TERM
trap 'echo hup' HUP
echo ready
while :; do sleep 0.02; done`

// runCounting starts it under closetrace run, in a session without a terminal.
func runCounting(t *testing.T) (cmd *exec.Cmd, out *bufio.Reader) {
	t.Helper()
	cmd = exec.Command("closetrace-fake", "run", "--", "sh", "-c", counting)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd.Stdout, cmd.SysProcAttr = w, &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() { timer.Stop() })
	out = bufio.NewReader(r)
	says(t, out, "ready")
	return cmd, out
}

func says(t *testing.T, out *bufio.Reader, want string) {
	t.Helper()
	line, err := out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != want {
		t.Fatalf("said %q, %v; want %q", line, err, want)
	}
}

// Signals reach the command, and its answer is the exit code.
func TestRunForwardsSignals(t *testing.T) {
	cmd, out := runCounting(t)
	for sig, want := range map[syscall.Signal]string{syscall.SIGINT: "int", syscall.SIGHUP: "hup"} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		says(t, out, want)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	says(t, out, "got 1")
	_ = cmd.Wait() // its exit code is looked at
	if code := cmd.ProcessState.ExitCode(); code != 9 {
		t.Errorf("exit code %d", code)
	}
}

// Ctrl-C reaches the command by the terminal, and closetrace leaves it at that;
// other signals, and all of them where there is no terminal, it passes on.
func TestKeysAreLeftToTheTerminal(t *testing.T) {
	_, slave := terminal(t)
	for want, attr := range map[string]*syscall.SysProcAttr{
		"interrupt true, quit true, terminated false\n":   {Setsid: true, Setctty: true, Ctty: 0},
		"interrupt false, quit false, terminated false\n": {Setsid: true},
	} {
		cmd := exec.Command("from-terminal")
		cmd.Stdin, cmd.SysProcAttr = slave, attr
		said, err := cmd.Output()
		if err != nil || string(said) != want {
			t.Errorf("said %q, %v; want %q", said, err, want)
		}
	}
}

// sayFromTerminal is the program that tells what it would leave to the terminal.
func sayFromTerminal() {
	fmt.Printf("%v %v, %v %v, %v %v\n", syscall.SIGINT, fromTerminal(syscall.SIGINT),
		syscall.SIGQUIT, fromTerminal(syscall.SIGQUIT), syscall.SIGTERM, fromTerminal(syscall.SIGTERM))
}
