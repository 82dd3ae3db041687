package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// fullAfter is a disk with space for some writes.
type fullAfter struct {
	strings.Builder
	writes int
}

func (f *fullAfter) Write(p []byte) (int, error) {
	if f.writes--; f.writes < 0 {
		return 0, syscall.ENOSPC
	}
	return f.Builder.Write(p)
}

func TestCheckedWriter(t *testing.T) {
	failed := errors.New("failed")
	for writes, want := range []string{"", "a", "ab"} {
		disk := &fullAfter{writes: writes}
		w := &CheckedWriter{Writer: disk}
		for _, text := range []string{"a", "b"} {
			fmt.Fprint(w, text)
		}
		disk.writes = 1
		fmt.Fprint(w, "c")
		if writes == 2 {
			if w.Outcome(nil) != nil || w.Outcome(failed) != failed || disk.String() != "abc" {
				t.Errorf("%q: %v", disk.String(), w.Outcome(nil))
			}
			continue
		}
		if err := w.Outcome(failed); !errors.As(err, new(*OutputError)) || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("after %d writes: %v", writes, err)
		}
		if disk.String() != want {
			t.Errorf("after %d writes: %q was written, want %q", writes, disk.String(), want)
		}
	}
}
