package pipeline

import (
	"cmp"
	"io"
)

// CheckedWriter writes to standard output and keeps the first error, for a caller that ignores errors of writes. It
// writes nothing after an error.
type CheckedWriter struct {
	io.Writer
	err error
}

// Write writes p, or returns the error of an earlier write.
func (w *CheckedWriter) Write(p []byte) (n int, err error) {
	if w.err == nil {
		n, w.err = w.Writer.Write(p)
	}
	return n, w.err
}

// Outcome returns the error of the writes as an [*OutputError], or else err.
func (w *CheckedWriter) Outcome(err error) error { return cmp.Or(OutputFailure(w.err), err) }
