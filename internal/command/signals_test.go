package command

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

// reportVariable makes this test program print which signals it would not forward.
const reportVariable = "CLOSETRACE_TEST_FROM_TERMINAL"

func TestMain(m *testing.M) {
	if os.Getenv(reportVariable) != "" {
		fmt.Printf("%v %v, %v %v, %v %v\n", syscall.SIGINT, fromTerminal(syscall.SIGINT),
			syscall.SIGQUIT, fromTerminal(syscall.SIGQUIT), syscall.SIGTERM, fromTerminal(syscall.SIGTERM))
		return
	}
	m.Run()
}

// The terminal sends Ctrl-C to the command, so it is not forwarded. Other signals
// are, and all of them are if there is no terminal.
func TestFromTerminal(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	for want, attr := range map[string]*syscall.SysProcAttr{
		"interrupt true, quit true, terminated false\n":   {Setsid: true, Setctty: true, Ctty: 0},
		"interrupt false, quit false, terminated false\n": {Setsid: true},
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
