// Package sink is where endings go: a table for people, JSON lines for
// programs, and the summary at the end of a run.
//
// A sink takes endings as they come and keeps them until Flush, so that a
// burst is written in batches. Everything that a traced process chose, its comm
// above all, is escaped before it can reach a terminal. Sinks know endings and
// writers; where endings come from, and when a batch is over, is their
// caller's business.
package sink

import "io"

// batch is output that waits for its flush.
type batch struct {
	w   io.Writer
	buf []byte
}

// batchLimit is the number of bytes after which a batch is written without
// being asked.
const batchLimit = 64 << 10

// flush writes what waits, and forgets it even if that fails: the caller learns
// of the failure, and a broken pipe does not pile up.
func (b *batch) flush() error {
	if len(b.buf) == 0 {
		return nil
	}
	_, err := b.w.Write(b.buf)
	b.buf = b.buf[:0]
	return err
}

// added writes the batch if it has become large.
func (b *batch) added() error {
	if len(b.buf) < batchLimit {
		return nil
	}
	return b.flush()
}
