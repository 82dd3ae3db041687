package pipeline

import (
	"errors"
	"io"
	"testing"
	"time"
)

// A reader that reads nothing is waited for until the user asks for the end, and then for a second. Nothing is
// written after a write that timed out.
func TestDeadlineWriter(t *testing.T) {
	t.Parallel()
	reader, to := io.Pipe() // without a reader
	defer reader.Close()
	interrupted := make(chan struct{})
	w := NewDeadlineWriter(to, interrupted)
	done := make(chan error, 1)
	go func() {
		n, err := w.Write([]byte("one\ntwo\n"))
		if n != 0 {
			t.Errorf("%d bytes written", n)
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	begin := time.Now()
	close(interrupted)
	err := <-done
	if took := time.Since(begin); took < time.Second || took > 10*time.Second {
		t.Errorf("gave up after %s", took)
	}
	if !errors.Is(err, errStalled) || err.Error() != "no reader for 1s" || linesLost(err) != 2 {
		t.Errorf("got %v, %d lines lost", err, linesLost(err))
	}
	if _, err := w.Write([]byte("three\n")); !errors.Is(err, errStalled) || linesLost(err) != 0 {
		t.Errorf("after a timeout: %v", err)
	}
}

// A write that the reader takes in time is no error, before and after the user asks for the end.
func TestDeadlineWriterInTime(t *testing.T) {
	reader, to := io.Pipe()
	go io.Copy(io.Discard, reader)
	interrupted := make(chan struct{})
	w := NewDeadlineWriter(to, interrupted)
	for range 2 {
		if n, err := w.Write([]byte("line\n")); n != 5 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		select {
		case <-interrupted:
		default:
			close(interrupted)
		}
	}
}
