// Package report makes a document to hand over of recordings: what needs attention by cause, process and service, over
// time, an example of each verdict as a ladder, what to do about it, and how it was recorded.
//
// A [Collector] takes the endings and keeps aggregates and a bounded sample, so that neither its memory nor the
// document grow with the number of endings.
package report

import (
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/why"
)

// Options say how a report looks.
type Options struct {
	Language explain.Language
	Version  string   // of closetrace
	Files    []string // the recordings
	// Say returns a sentence of closetrace in the language of the reader. Nil: sentences are in English.
	Say func(string) string
}

// Collector collects what a report shows. It is a sink of the endings that it counts, and an observer of all, so that
// its examples have both ends.
type Collector struct {
	summary     sink.Summary
	sample      *why.Sample
	timeline    timeline
	abnormal    uint64
	first, last time.Time
	recordings  []recorded
	joined      []string // how several were joined
	leftOut     uint64   // by filters
}

// recorded is what is known of a recording.
type recorded struct {
	header  events.Header
	took    time.Duration
	remarks []string
}

// maxRecordings is how many recordings a report describes one by one.
const maxRecordings = 50

// New returns a collector of nothing.
func New() *Collector { return &Collector{sample: why.NewSample()} }

// Observe takes an ending for the examples.
func (c *Collector) Observe(e *events.Ending, shown bool) { c.sample.Add(e, shown) }

// Write counts an ending.
func (c *Collector) Write(e *events.Ending) error {
	c.summary.Add(e)
	if c.first.IsZero() || e.Time.Before(c.first) {
		c.first = e.Time
	}
	if e.Time.After(c.last) {
		c.last = e.Time
	}
	if e.IsAbnormal() {
		c.abnormal++
	}
	if e.Severity() != events.Plain {
		c.timeline.add(e.Path, e.Time)
	}
	return nil
}

// Flush does nothing.
func (c *Collector) Flush() error { return nil }

// Close does nothing.
func (c *Collector) Close() error { return nil }

// AddRecording adds the header and the summary of a recording whose endings were written, or the summary of several.
func (c *Collector) AddRecording(h events.Header, s *sink.Summary) {
	c.leftOut += s.Figures().LeftOut
	if len(s.Parts) > 0 {
		c.joined = s.BothEnds.Lines()
		return
	}
	if len(c.recordings) < maxRecordings {
		c.recordings = append(c.recordings, recorded{h, s.Took, s.Remarks()})
	}
}
