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
	path, err := program()
	must(t, err)
	s := screen.Open(t, 120, 24)
	before := s.State()
	inNetns(t, func(uint32) {
		start := func() int {
			pid := s.Run(path, "top", "--sort", "errors", "--netns", threadNetns(), "--attach", *attach)
			s.Shows("closetrace top", " 0 endings, ", "records lost, ", "q quit")
			return pid
		}
		start()
		resets(t, 3)
		row := regexp.MustCompile(`(?m) 3 +3 +3  close\.rst\.linger0  close → RST$`)
		s.Until("three resets", row.MatchString)
		s.Press("Enter")
		self, err := os.ReadFile("/proc/self/comm")
		must(t, err)
		inside := s.Shows("last endings, newest first, of close.rst.linger0", "esc back")
		if n := len(regexp.MustCompile(strings.TrimSpace(string(self))+` .*127\.0\.0\.1:\d+ +close → RST`).FindAllString(inside, -1)); n != 3 {
			t.Errorf("%d endings", n)
		}
		s.Press("Escape") // and another key soon after it were one with Alt
		s.Shows("by path, sorted by errors")
		s.Press("Tab")
		s.Shows("by process, sorted by errors", strings.TrimSpace(string(self))+"[")
		s.Press("q")
		if said := s.Ready(); !strings.Contains(said, "\naudit: RSTs sent 3, explained 3;") || !strings.Contains(said, "\nexit code 0\n") {
			t.Error("it does not end in good order")
		}
		if after := s.State(); after != before {
			t.Errorf("the terminal was\n%s\nand is\n%s", before, after)
		}

		must(t, syscall.Kill(start(), syscall.SIGTERM))
		s.Ready()
		if after := s.State(); after != before {
			t.Errorf("after SIGTERM, the terminal was\n%s\nand is\n%s", before, after)
		}
	})
}
