package pipeline

import (
	"cmp"
	"io"

	"github.com/closetrace/closetrace/internal/events"
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

// CheckedSink writes endings to a sink and keeps the first error, for a caller that goes on after one. From then on it
// only counts endings.
type CheckedSink struct {
	Sink
	err       error  // an [*OutputError]
	unwritten uint64 // endings after it
}

// Write writes e, or counts it and returns the first error.
func (s *CheckedSink) Write(e *events.Ending) error {
	if s.err != nil {
		s.unwritten++
		return s.err
	}
	s.err = OutputFailure(s.Sink.Write(e))
	return s.err
}

// Flush flushes the sink, or returns the first error.
func (s *CheckedSink) Flush() error {
	if s.err == nil {
		s.err = OutputFailure(s.Sink.Flush())
	}
	return s.err
}

// Close closes the sink, or returns the first error.
func (s *CheckedSink) Close() error {
	if s.err == nil {
		s.err = OutputFailure(s.Sink.Close())
	}
	return s.err
}

// Outcome returns the first error, and how many endings were not written, as [sink.Summary] has it.
func (s *CheckedSink) Outcome() (unwritten uint64, err error) {
	return s.unwritten + linesLost(s.err), s.err
}
