//go:build linux

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/closetrace/closetrace/test/screen"
)

// inTerminal starts closetrace top, with made-up events, in a terminal.
func inTerminal(t *testing.T, name string) (s *screen.Terminal, pid int, before string) {
	t.Helper()
	s = screen.Open(t, 100, 20)
	before = s.State()
	pid = s.Run(name, "top")
	s.Shows("closetrace top", "q quit")
	if s.State() == before {
		t.Fatal("the state of the terminal does not change with a screen on it")
	}
	return s, pid, before
}

// leftAsFound waits for the shell, and checks that the terminal is as it was before.
func leftAsFound(t *testing.T, s *screen.Terminal, before string) (stderr string) {
	t.Helper()
	stderr = s.Ready()
	if after := s.State(); after != before {
		t.Errorf("the terminal was\n%s\nand is\n%s", before, after)
	}
	return stderr
}

func TestTopScreen(t *testing.T) {
	s, _, before := inTerminal(t, "closetrace-fake")
	s.Shows("6.1.0-fake by fentry", "2 records lost, 0 probes missed  3 endings", "by path, sorted by rate",
		"3         0         0            0  close.fin.active  close → FIN",
		"q quit • ↑↓ choose • enter endings • tab group • s sort • e errors • / filter • ? explain")
	s.Press("Enter")
	inside := s.Shows("last endings, newest first, of close.fin.active", "10.0.0.5:443", "esc back")
	if n := strings.Count(inside, "all data read; ESTABLISHED"); n != 3 {
		t.Errorf("%d endings are shown", n)
	}
	s.Press("Escape")
	s.Shows("by path")
	s.Press("Tab")
	s.Shows("by process, sorted by rate", "3         0         0            0  nginx[4211]")
	s.Press("Tab", "s")
	s.Shows("by remote, sorted by total", "3         0         0            0  10.0.0.9")
	s.Press("?")
	s.Shows("close.fin.active", "esc back")
	s.Press("Escape")
	s.Shows("by remote, sorted by total")
	s.Press("/", "x", "Enter")
	s.Shows(`with "x"`, "no group matches")
	s.Press("Escape")
	s.Shows("by remote, sorted by total", "10.0.0.9")
	s.Press("e")
	s.Shows("errors only", "no group matches")
	s.Press("e")
	s.Shows("by remote, sorted by total", "10.0.0.9")
	s.Press("Space")
	s.Shows("PAUSED, counting goes on", "10.0.0.9")
	s.Press("z")
	s.Shows("nothing has ended yet", " 0 endings, ", "2 records lost")
	s.Press("q")
	stderr := leftAsFound(t, s, before)
	for _, want := range []string{
		"closetrace: tracing on 6.1.0-fake", "\n3 endings in ", "\n2 records lost, 0 probes missed\n", "\naudit: ",
		"\nexit code 0\n",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not printed", want)
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
			stderr := leftAsFound(t, s, before)
			for _, want := range tt.says {
				if !strings.Contains(stderr, want) {
					t.Errorf("%q is not printed", want)
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

// --duration ends the screen.
func TestTopEndsByItself(t *testing.T) {
	s := screen.Open(t, 100, 20)
	before := s.State()
	s.Run("closetrace-fake", "top", "--duration", "300ms")
	stderr := leftAsFound(t, s, before)
	if !strings.Contains(stderr, "\n3 endings in ") || !strings.Contains(stderr, "exit code 0") {
		t.Error("it does not end cleanly")
	}
}

// The environment cannot make the library of the screen write a file.
func TestTopWritesNoLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	s := screen.Open(t, 100, 20)
	before := s.State()
	s.Run("env", "TEA_TRACE="+log, "TEA_DEBUG=1", "closetrace-fake", "top", "--duration", "300ms")
	leftAsFound(t, s, before)
	if _, err := os.Stat(log); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is there: %v", log, err)
	}
}

// Closes without an effect are counted only if they are asked for, as a trace prints them only then.
func TestTopHidesWhatHasNoEffect(t *testing.T) {
	for flags, shown := range map[string]string{
		"": "nothing has ended yet", "--all": "close.silent.closed.never-connected",
		"--only=close.silent": "close.silent.closed.never-connected",
	} {
		s := screen.Open(t, 100, 20)
		before := s.State()
		s.Run(append([]string{"closetrace-silent", "top"}, strings.Fields(flags)...)...)
		s.Shows("2 records lost", shown)
		s.Press("q")
		stderr := leftAsFound(t, s, before)
		isHidden := strings.Contains(stderr, "\n3 endings without an effect not shown; --all shows them\n")
		if isHidden != (flags == "") || !strings.Contains(stderr, "\n3 endings in ") {
			t.Errorf("%s: stderr:\n%s", flags, stderr)
		}
	}
}

// Ctrl-Z restores the terminal and stops the process; fg shows the screen again.
func TestTopIsSuspended(t *testing.T) {
	s, _, before := inTerminal(t, "closetrace-fake")
	s.Press("C-z")
	leftAsFound(t, s, before)
	s.Press("fg", "Enter")
	s.Shows("closetrace top", "3         0         0            0  close.fin.active")
	s.Press("q")
	leftAsFound(t, s, before)
}
