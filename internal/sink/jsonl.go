package sink

import (
	"io"

	"github.com/closetrace/closetrace/internal/events"
)

// JSONL writes one JSON object per line for each ending.
type JSONL struct {
	batch
	encoder *events.Encoder
}

// NewJSONL returns a sink that writes to w.
func NewJSONL(w io.Writer) *JSONL {
	return &JSONL{batch{w: w}, events.NewEncoder()}
}

// Begin says which host the endings are of.
func (j *JSONL) Begin(h events.Header) { j.encoder.Begin(h) }

// Write appends e to the batch.
func (j *JSONL) Write(e *events.Ending) error {
	j.buf = append(j.encoder.Append(j.buf, e), '\n')
	return j.added()
}

// Flush writes the batch.
func (j *JSONL) Flush() error { return j.flush() }

// Close flushes. The writer stays open: it is the caller's.
func (j *JSONL) Close() error { return j.flush() }
