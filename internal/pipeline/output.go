package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// stallTimeout is how long a write may take once the user has asked for the end.
const stallTimeout = time.Second

// errStalled: the reader took nothing for stallTimeout after the user asked for the end.
var errStalled = fmt.Errorf("no reader for %s", stallTimeout)

// DeadlineWriter waits for a slow reader, such as a pager or a stopped terminal, without a limit. Once the user has
// asked for the end, a write that takes longer than a second fails, and so do all after it.
type DeadlineWriter struct {
	to          io.Writer
	interrupted <-chan struct{}

	mu  sync.Mutex
	buf []byte // what is being written
	err error  // the first
}

// NewDeadlineWriter returns a writer to w. interrupted is closed once the user has asked for the end.
func NewDeadlineWriter(w io.Writer, interrupted <-chan struct{}) *DeadlineWriter {
	return &DeadlineWriter{to: w, interrupted: interrupted}
}

// Write returns an [unwritten] error with the number of lines that were not written.
func (w *DeadlineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	w.buf = append(w.buf[:0], p...) // a copy: a write that timed out may still read it, and is the last
	written, err := w.write(w.buf)
	if err != nil {
		w.err = err
		err = &unwritten{error: err, lines: uint64(bytes.Count(p[written:], []byte{'\n'}))}
	}
	return written, err
}

func (w *DeadlineWriter) write(p []byte) (written int, err error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := w.to.Write(p)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-w.interrupted:
	}
	select {
	case r := <-done:
		return r.n, r.err
	case <-time.After(stallTimeout):
		return 0, w.stalled()
	}
}

// stalled returns errStalled, with the name of the file, as the os package would for its errors.
func (w *DeadlineWriter) stalled() error {
	if file, ok := w.to.(*os.File); ok && file != os.Stdout {
		return &fs.PathError{Op: "write", Path: file.Name(), Err: errStalled}
	}
	return errStalled
}

// unwritten is why a write failed, and how many lines it did not write: at most, if it timed out.
type unwritten struct {
	error
	lines uint64
}

func (u *unwritten) Unwrap() error { return u.error }

// linesLost returns the number of lines that err says were not written.
func linesLost(err error) uint64 {
	var u *unwritten
	if errors.As(err, &u) {
		return u.lines
	}
	return 0
}
