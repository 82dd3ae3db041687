//go:build linux

package live

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/closetrace/closetrace/test/screen"
)

// closetrace top shows connections that are reset, and who did it, and leaves the
// terminal as it found it. cmd/closetrace tests the rest of it on made-up facts.
func TestTopInATerminal(t *testing.T) {
	privileged(t)
	attempts(t, func(t testing.TB) {
		s := screen.Open(t, 120, 24)
		before := s.State()
		inNetns(t, func(uint32) {
			defer func() { countMissed(t, uint64(missed(s.Look()))) }()
			showsResets(t, s)
			checkTerminalRestored(t, s, before)
			must(t, syscall.Kill(startTop(t, s), syscall.SIGTERM))
			s.Ready()
			checkTerminalRestored(t, s, before)
		})
	})
}

// startTop shows what ends in the namespace of the calling thread.
func startTop(t testing.TB, s *screen.Terminal) (pid int) {
	t.Helper()
	path, err := program()
	must(t, err)
	pid = s.Run(path, "top", "--sort", "errors", "--netns", threadNetns(), "--attach", *attach)
	s.Shows("closetrace top", " 0 endings, ", "records lost, ", "q quit")
	return pid
}

func showsResets(t testing.TB, s *screen.Terminal) {
	t.Helper()
	startTop(t, s)
	resets(t, 3)
	s.Until("three resets", regexp.MustCompile(`(?m) 3 +0 +3 +0  close\.rst\.linger0  close → RST$`).MatchString)
	s.Press("Enter")
	comm, err := os.ReadFile("/proc/self/comm")
	must(t, err)
	self := strings.TrimSpace(string(comm))
	inside := s.Shows("last endings, newest first, of close.rst.linger0", "esc back")
	if n := len(regexp.MustCompile(self+` .*127\.0\.0\.1:\d+ +close → RST`).FindAllString(inside, -1)); n != 3 {
		t.Errorf("%d endings", n)
	}
	s.Press("Escape") // and another key soon after it were one with Alt
	s.Shows("by path, sorted by errors")
	s.Press("Tab")
	s.Shows("by process, sorted by errors", self+"[")
	s.Press("q")
	if stderr := s.Ready(); !strings.Contains(stderr, "\naudit: RSTs sent 3, explained 3;") ||
		!strings.Contains(stderr, "\nexit code 0\n") {
		t.Errorf("it does not end in good order:\n%s", stderr)
	}
}

func checkTerminalRestored(t testing.TB, s *screen.Terminal, before string) {
	t.Helper()
	if after := s.State(); after != before {
		t.Errorf("the terminal was\n%s\nand is\n%s", before, after)
	}
}
