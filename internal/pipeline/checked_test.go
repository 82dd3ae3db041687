package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink"
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

// An ending that is in no write any more is counted, like those of the write that failed.
func TestCheckedSink(t *testing.T) {
	for _, tc := range []struct {
		writes    int
		unwritten uint64
	}{{0, 3}, {1, 2}, {2, 1}, {3, 0}} {
		disk := &fullAfter{writes: tc.writes}
		s := &CheckedSink{Sink: sink.NewJSONL(NewDeadlineWriter(disk, nil))}
		for range 3 {
			_, _ = s.Write(&events.Ending{}), s.Flush()
		}
		disk.writes = 1
		closeErr := s.Close()
		unwritten, err := s.Outcome()
		if unwritten != tc.unwritten || strings.Count(disk.String(), "\n") != tc.writes {
			t.Errorf("after %d writes: %d endings not written, written:\n%s", tc.writes, unwritten, disk)
		}
		if failed := errors.Is(err, syscall.ENOSPC); failed != (tc.writes < 3) || !errors.Is(err, closeErr) {
			t.Errorf("after %d writes: %v, of Close %v", tc.writes, err, closeErr)
		}
	}
}
