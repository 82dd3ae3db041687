package events

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The names, numbers and texts are those of Linux.
func TestErrnos(t *testing.T) {
	texts := 0
	for n := range 200 {
		e := Errno(n)
		if want := unix.ErrnoName(syscall.Errno(n)); e.Name() != want && n <= len(errnoNames) {
			t.Errorf("%d is %q, want %q", n, e.Name(), want)
		}
		if e.Name() != "" && ErrnoNamed(e.Name()) != e {
			t.Errorf("%s is %d, want %d", e.Name(), ErrnoNamed(e.Name()), n)
		}
		if want := unix.SignalName(syscall.Signal(n)); SignalName(n) != want {
			t.Errorf("signal %d is %q, want %q", n, SignalName(n), want)
		}
		if e.Text() == "" {
			continue
		}
		if texts++; e.Text() != syscall.Errno(n).Error() {
			t.Errorf("%s is %q, want %q", e.Name(), e.Text(), syscall.Errno(n))
		}
	}
	if texts != len(errnoTexts) || EPIPE.Name() != "EPIPE" || ErrnoNamed("") != 0 || ErrnoNamed("ENONE") != 0 {
		t.Errorf("%d texts; EPIPE is %q", texts, EPIPE.Name())
	}
}
