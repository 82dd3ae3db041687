package command

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

// reportVariable makes this test program print which signals it would not forward, to a process of its own group and
// to its parent, which is in another one.
const reportVariable = "CLOSETRACE_TEST_FROM_TERMINAL"

func TestMain(m *testing.M) {
	if os.Getenv(reportVariable) != "" {
		own, other := os.Getpid(), os.Getppid()
		fmt.Printf("%v %v, %v %v, %v %v, elsewhere %v\n", syscall.SIGINT, fromTerminal(syscall.SIGINT, own),
			syscall.SIGQUIT, fromTerminal(syscall.SIGQUIT, own), syscall.SIGTERM, fromTerminal(syscall.SIGTERM, own),
			fromTerminal(syscall.SIGINT, other))
		return
	}
	m.Run()
}

// The terminal sends Ctrl-C to the command, so it is not forwarded. Other signals
// are, and all of them are if there is no terminal, or the command is in another group.
func TestFromTerminal(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	for want, attr := range map[string]*syscall.SysProcAttr{
		"interrupt true, quit true, terminated false, elsewhere false\n":   {Setsid: true, Setctty: true, Ctty: 0},
		"interrupt false, quit false, terminated false, elsewhere false\n": {Setsid: true},
	} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), reportVariable+"=1")
		cmd.Stdin, cmd.SysProcAttr = slave, attr
		got, err := cmd.Output()
		if err != nil || string(got) != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}
