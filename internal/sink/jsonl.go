package sink

import (
	"io"

	"github.com/closetrace/closetrace/internal/events"
)

// JSONL writes each ending as one JSON object on a line of its own.
type JSONL struct {
	batch
	encoder *events.Encoder
}

// NewJSONL returns a sink that writes to w.
func NewJSONL(w io.Writer) *JSONL {
	return &JSONL{batch{w: w}, events.NewEncoder()}
}

// Write appends e to the batch.
func (j *JSONL) Write(e *events.Ending) error {
	j.buf = append(j.encoder.Append(j.buf, e), '\n')
	return j.added()
}

// Flush writes the batch. The caller flushes when it has nothing more to
// write for now.
func (j *JSONL) Flush() error { return j.flush() }

// Close flushes. The writer stays open: it is the caller's.
func (j *JSONL) Close() error { return j.flush() }
