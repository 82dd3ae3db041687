// Package sink prints endings: a table for people, JSON lines for programs, and the summary at the end of a run.
//
// A sink keeps what it prints until Flush, so that a burst is written in batches; the caller decides when to flush.
// Every text that a traced process chose, such as its comm, is escaped before it reaches a terminal.
package sink

import "io"

// batch is output that is not written yet.
type batch struct {
	w   io.Writer
	buf []byte
}

// batchLimit is the number of bytes from which on a batch is written without Flush.
const batchLimit = 64 << 10

// flush writes the batch. It drops it even if that fails, so that output does not pile up behind a broken pipe.
func (b *batch) flush() error {
	if len(b.buf) == 0 {
		return nil
	}
	_, err := b.w.Write(b.buf)
	b.buf = b.buf[:0]
	return err
}

// added writes the batch if it is large.
func (b *batch) added() error {
	if len(b.buf) < batchLimit {
		return nil
	}
	return b.flush()
}
