//go:build linux

// Package screen is a terminal that tests type into and look at: tmux.
package screen

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Terminal is one with a shell in it.
type Terminal struct {
	t   testing.TB
	dir string
}

// The shell says when it is ready for the next command.
const prompt = "ready> "

// Open opens a terminal. Without tmux the test is skipped; test/deps.sh installs
// it.
func Open(t testing.TB, width, height int) *Terminal {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skipf("needs tmux, which test/deps.sh test installs: %v", err)
	}
	dir, err := os.MkdirTemp("", "screen") // short, as the name of a socket has to be
	if err != nil {
		t.Fatal(err)
	}
	s := &Terminal{t, dir}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the screen:\n%s", s.Look())
		}
		s.tmux("kill-server")
		os.RemoveAll(dir)
	})
	s.tmux("-f", "/dev/null", "new-session", "-d", "-x", strconv.Itoa(width), "-y", strconv.Itoa(height),
		"env PS1='"+prompt+"' sh")
	s.Ready()
	return s
}

func (s *Terminal) tmux(args ...string) string {
	s.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-u", "-S", filepath.Join(s.dir, "tmux")}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("tmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Look returns what is on the screen, without the blanks at the ends.
func (s *Terminal) Look() string {
	s.t.Helper()
	return strings.TrimRight(s.tmux("capture-pane", "-p"), "\n")
}

// Until looks until what it sees is as wanted, and returns it.
func (s *Terminal) Until(what string, wanted func(screen string) bool) string {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if screen := s.Look(); wanted(screen) {
			return screen
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// Shows waits for texts.
func (s *Terminal) Shows(texts ...string) string {
	s.t.Helper()
	return s.Until(strings.Join(texts, ", "), func(screen string) bool {
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return false
			}
		}
		return true
	})
}

// Ready waits for the shell, and returns the screen with what has left it.
func (s *Terminal) Ready() string {
	s.t.Helper()
	s.Until("the shell is ready", func(screen string) bool {
		return strings.HasSuffix("\n"+screen, "\n"+strings.TrimSpace(prompt))
	})
	return s.tmux("capture-pane", "-p", "-S", "-")
}

// Press presses keys, by the names that tmux gives them.
func (s *Terminal) Press(keys ...string) {
	s.t.Helper()
	s.tmux(append([]string{"send-keys"}, keys...)...)
}

// Run types a command, and returns its process id once it runs.
func (s *Terminal) Run(argv ...string) (pid int) {
	s.t.Helper()
	file := filepath.Join(s.dir, "pid")
	os.Remove(file)
	for i := range argv {
		argv[i] = "'" + argv[i] + "'"
	}
	script := filepath.Join(s.dir, "run")
	text := "clear; echo $$ >" + file + ".new; mv " + file + ".new " + file + "; exec " + strings.Join(argv, " ") + "\n"
	if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.Press("sh "+script+"; echo exit code $?", "Enter")
	s.Until("the command runs", func(string) bool {
		out, err := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(out)))
		return err == nil
	})
	return pid
}

// State is all that a program may leave behind in a terminal: its settings as
// stty tells them, and the modes as tmux does.
func (s *Terminal) State() string {
	s.t.Helper()
	tty := strings.TrimSpace(s.tmux("display-message", "-p", "#{pane_tty}"))
	settings, err := exec.Command("stty", "-a", "-F", tty).CombinedOutput()
	if err != nil {
		s.t.Fatalf("stty: %v\n%s", err, settings)
	}
	return string(settings) + s.tmux("display-message", "-p", "alternate screen #{alternate_on}, cursor #{cursor_flag}, "+
		"mouse #{mouse_any_flag}, keypad #{keypad_flag} #{keypad_cursor_flag}, insert #{insert_flag}, wrap #{wrap_flag}, "+
		"origin #{origin_flag}")
}
