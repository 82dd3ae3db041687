package pipeline

import (
	"io"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink"
)

// SummarySink is a [Sink] that prints no ending, but every now and then the summary so far.
type SummarySink struct {
	to    io.Writer
	every time.Duration
	begin time.Time
	next  time.Time
	sum   *sink.Summary // nil: there is none, so none is printed
	look  sink.SummaryOptions
}

// NewSummarySink returns a sink that prints to w, first after one interval.
func NewSummarySink(w io.Writer, every time.Duration, look sink.SummaryOptions) *SummarySink {
	now := time.Now()
	return &SummarySink{to: w, every: every, begin: now, next: now.Add(every), look: look}
}

// ShowSummary makes a sink print a summary, if it is a [SummarySink].
func ShowSummary(to Sink, sum *sink.Summary) {
	if s, ok := to.(*SummarySink); ok {
		s.sum = sum
	}
}

// Write prints the summary if it is time.
func (s *SummarySink) Write(*events.Ending) error { return s.Flush() }

// Flush does the same, without an ending.
func (s *SummarySink) Flush() error {
	now := time.Now()
	if s.sum == nil || now.Before(s.next) {
		return nil
	}
	s.next = s.next.Add(s.every)
	if s.next.Before(now) { // printing took longer than the interval
		s.next = now.Add(s.every)
	}
	return s.sum.PrintInterim(s.to, s.look, now, now.Sub(s.begin))
}

// Close prints nothing: the whole summary follows.
func (s *SummarySink) Close() error { return nil }
