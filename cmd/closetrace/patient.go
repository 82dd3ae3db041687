package main

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"
)

// stallTime is how long a write may take once the user wants the end.
const stallTime = time.Second

// errStalled: whoever reads takes nothing, and was not waited for.
var errStalled = errors.New("nobody takes the data")

// patient waits for whoever reads, a pager or a stopped terminal, for as long
// as it takes; but only stallTime once the user wants the end. What was given
// up is not tried again.
type patient struct {
	to    io.Writer
	ended <-chan struct{}

	mu  sync.Mutex
	buf []byte // what is being written
	err error  // the first
}

// patient makes a writer to w so.
func (e *env) patient(w io.Writer) *patient { return &patient{to: w, ended: e.ended} }

// Write returns an [unwritten] error for what was not.
func (w *patient) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	w.buf = append(w.buf[:0], p...) // which a write that was given up may still read; there is none after it
	written, err := w.try(w.buf)
	if err != nil {
		w.err = err
		err = &unwritten{error: err, lines: uint64(bytes.Count(p[written:], []byte{'\n'}))}
	}
	return written, err
}

func (w *patient) try(p []byte) (written int, err error) {
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
	case <-w.ended:
	}
	select {
	case r := <-done:
		return r.n, r.err
	case <-time.After(stallTime):
		return 0, errStalled
	}
}

// unwritten is why a write ended early, and how many lines it still had: at
// most, if it was given up.
type unwritten struct {
	error
	lines uint64
}

func (u *unwritten) Unwrap() error { return u.error }

// linesLost is the number of lines that err says were not written.
func linesLost(err error) uint64 {
	var u *unwritten
	if errors.As(err, &u) {
		return u.lines
	}
	return 0
}
