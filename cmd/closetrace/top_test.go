package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/closetrace/closetrace/test/screen"
)

// inTerminal starts closetrace top, with made-up facts, in a terminal.
func inTerminal(t *testing.T, name string) (s *screen.Terminal, pid int, before string) {
	t.Helper()
	s = screen.Open(t, 100, 20)
	before = s.State()
	pid = s.Run(name, "top")
	s.Shows("closetrace top", "q quit")
	if s.State() == before {
		t.Fatal("the state of the terminal does not tell that there is a screen on it")
	}
	return s, pid, before
}

// leftAsFound waits for the shell, and finds the terminal as it was.
func leftAsFound(t *testing.T, s *screen.Terminal, before string) (said string) {
	t.Helper()
	said = s.Ready()
	if after := s.State(); after != before {
		t.Errorf("the terminal was\n%s\nand is\n%s", before, after)
	}
	return said
}

func TestTopScreen(t *testing.T) {
	s, _, before := inTerminal(t, "closetrace-fake")
	s.Shows("6.1.0-fake by fentry", "2 records lost, 0 probes missed  3 endings", "by path, sorted by rate",
		"3         0         0  close.fin.active  close → FIN",
		"↑↓ choose • enter endings • tab group • s sort • space pause • z zero • q quit")
	s.Press("Enter")
	inside := s.Shows("last endings, newest first, of close.fin.active", "10.0.0.5:443", "esc back")
	if n := strings.Count(inside, "all data read; active close"); n != 3 {
		t.Errorf("%d endings are shown", n)
	}
	s.Press("Escape")
	s.Shows("by path")
	s.Press("Tab")
	s.Shows("by process, sorted by rate", "3         0         0  nginx[4211]")
	s.Press("Tab", "s")
	s.Shows("by remote, sorted by total", "3         0         0  10.0.0.9")
	s.Press("Space")
	s.Shows("PAUSED, counting goes on", "10.0.0.9")
	s.Press("z")
	s.Shows("nothing has ended yet", " 0 endings, ", "2 records lost")
	s.Press("q")
	said := leftAsFound(t, s, before)
	for _, want := range []string{"closetrace: tracing on 6.1.0-fake", "\n3 endings in ", "\n2 records lost, 0 probes missed\n", "\naudit: ", "\nexit code 0\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said", want)
		}
	}
}

func TestTopLeavesTheTerminalAsItWas(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(*screen.Terminal, int)
		says []string
	}{
		"q":         {func(s *screen.Terminal, _ int) { s.Press("q") }, []string{"\n3 endings in ", "exit code 0"}},
		"Ctrl-C":    {func(s *screen.Terminal, _ int) { s.Press("C-c") }, []string{"\n3 endings in ", "exit code 0"}},
		"SIGTERM":   {signalled(t, syscall.SIGTERM), []string{"\n3 endings in ", "exit code 0"}},
		"SIGINT":    {signalled(t, syscall.SIGINT), []string{"\n3 endings in ", "exit code 0"}},
		"SIGHUP":    {signalled(t, syscall.SIGHUP), []string{"\n3 endings in ", "exit code 0"}},
		"SIGQUIT":   {signalled(t, syscall.SIGQUIT), []string{"\n3 endings in ", "exit code 0"}},
		"panic":     {signalled(t, panicInSource), []string{"the source panics", "exit code 2"}},
		"its panic": {signalled(t, panicInView), []string{"the view panics", "exit code 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, pid, before := inTerminal(t, "closetrace-panics")
			tt.end(s, pid)
			said := leftAsFound(t, s, before)
			for _, want := range tt.says {
				if !strings.Contains(said, want) {
					t.Errorf("%q is not said", want)
				}
			}
		})
	}
}

func signalled(t *testing.T, sig syscall.Signal) func(*screen.Terminal, int) {
	return func(_ *screen.Terminal, pid int) {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Error(err)
		}
	}
}

// --duration ends the screen, too.
func TestTopEndsByItself(t *testing.T) {
	s := screen.Open(t, 100, 20)
	before := s.State()
	s.Run("closetrace-fake", "top", "--duration", "300ms")
	if said := leftAsFound(t, s, before); !strings.Contains(said, "\n3 endings in ") || !strings.Contains(said, "exit code 0") {
		t.Error("it does not end in good order")
	}
}

// Stopped by Ctrl-Z, it gives the terminal back, and takes it again.
func TestTopIsSuspended(t *testing.T) {
	s, _, before := inTerminal(t, "closetrace-fake")
	s.Press("C-z")
	leftAsFound(t, s, before)
	s.Press("fg", "Enter")
	s.Shows("closetrace top", "3         0         0  close.fin.active")
	s.Press("q")
	leftAsFound(t, s, before)
}

// What is said before the screen is there is said at once, and what is said behind
// it once it is gone.
func TestHeld(t *testing.T) {
	var said strings.Builder
	h := &held{to: &said}
	say := func(text, want string) {
		t.Helper()
		if _, err := h.Write([]byte(text)); err != nil || said.String() != want {
			t.Errorf("said %q, %v, want %q", said.String(), err, want)
		}
	}
	say("before ", "before ")
	h.hold()
	say("behind ", "before ")
	if err := h.release(); err != nil {
		t.Fatal(err)
	}
	say("after", "before behind after")
}
