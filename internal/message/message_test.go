package message

import (
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/hint"
)

func TestReport(t *testing.T) {
	var stderr strings.Builder
	Report(&stderr, &hint.Error{What: "first\nsecond", Hint: "do\nthis"})
	if want := "closetrace: first; second\nhint: do; this\n"; stderr.String() != want {
		t.Errorf("got %q", stderr.String())
	}
}

func TestLogHandler(t *testing.T) {
	var stderr strings.Builder
	quiet, verbose := NewLogger(&stderr, false), NewLogger(&stderr, true).With("mode", "kprobe")
	quiet.Debug("not printed")
	quiet.Warn("not seen on this kernel", "missing", "tcp_done", "unseen", "resets\nreceived")
	verbose.Debug("attached", "hooks", []string{"a", "b"})
	const want = "closetrace: not seen on this kernel; missing: tcp_done; unseen: resets; received\n" +
		"closetrace: attached; mode: kprobe; hooks: a, b\n"
	if stderr.String() != want {
		t.Errorf("got %q", stderr.String())
	}
}
