//go:build linux

// Package screen is a terminal in which tests type and read: tmux.
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

// Terminal is a terminal with a shell in it.
type Terminal struct {
	t   testing.TB
	dir string
}

// prompt is printed when the shell is ready for the next command.
const prompt = "ready> "

// Open opens a terminal. Without tmux it skips the test; test/deps.sh installs it.
func Open(t testing.TB, width, height int) *Terminal {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skipf("needs tmux, which test/deps.sh test installs: %v", err)
	}
	dir, err := os.MkdirTemp("", "screen") // short, because the path of a socket is limited
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

// Look returns the screen without trailing blanks.
func (s *Terminal) Look() string {
	s.t.Helper()
	return strings.TrimRight(s.tmux("capture-pane", "-p"), "\n")
}

// Until waits until the screen is as wanted, and returns it.
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

// Shows waits until the screen has some texts.
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

// Ready waits for the prompt of the shell, and returns the screen and what scrolled off it.
func (s *Terminal) Ready() string {
	s.t.Helper()
	s.Until("the shell is ready", func(screen string) bool {
		return strings.HasSuffix("\n"+screen, "\n"+strings.TrimSpace(prompt))
	})
	return s.tmux("capture-pane", "-p", "-S", "-")
}

// Press presses keys, by tmux's names.
func (s *Terminal) Press(keys ...string) {
	s.t.Helper()
	s.tmux(append([]string{"send-keys"}, keys...)...)
}

// Run types a command, and returns its process id when it runs.
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

// State returns what a program may change in a terminal: its settings by stty, and its modes by tmux.
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
