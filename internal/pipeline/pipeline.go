// Package pipeline carries events from a source to the endings that a user sees:
//
//	Source → resolvers → Recorder → classifier → display filter → Sink and observers
//
// The source is a probe (package live), a recording ([Replay]) or a test.
package pipeline

import (
	"io"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
)

// Source is where events come from: a probe live, a recording in a replay.
type Source interface {
	Header() events.Header
	// Read overwrites all of an event with the next one. [events.ErrIdle] means that there is none for now.
	Read(*events.Event) error
	// IdleNS returns the moment of the last [events.ErrIdle], by CLOCK_MONOTONIC.
	IdleNS() uint64
	// WallOffset returns what is to be added now to the time of an event for nanoseconds since the Unix epoch.
	WallOffset() int64
	// PollSoon limits how long the next Read waits, because something waits to be printed.
	PollSoon()
	// PollLater lets the next Read wait longer if nothing happens, because nothing waits to be printed.
	PollLater()
	Losses() events.Losses
	// Counted returns how many endings the source counted instead of reporting them, by path; nil if it reports all.
	// Notes and PeerFIN are then what the classifier asks for of the same name.
	Counted() map[events.Path]uint64
	Notes(func(*events.Note)) (since uint64)
	PeerFIN(*events.Event) (monoNS uint64, ok bool)
	Detach() error
	Close() error
}

// Sink is where endings go. An ending is valid during Write only.
type Sink interface {
	Write(*events.Ending) error
	Flush() error
	Close() error
}

// DiscardSink is a [Sink] that writes nothing.
type DiscardSink struct{}

// Write writes nothing.
func (DiscardSink) Write(*events.Ending) error { return nil }

// Flush does nothing.
func (DiscardSink) Flush() error { return nil }

// Close does nothing.
func (DiscardSink) Close() error { return nil }

// Begin passes the header to a sink that names the host of the endings.
func Begin(to Sink, h events.Header) {
	if s, ok := to.(interface{ Begin(events.Header) }); ok {
		s.Begin(h)
	}
}

// Recorder keeps the events on their way to the classifier, and the idle moments at which the classifier reported
// pending endings.
type Recorder interface {
	Write(*events.Event) error
	Idle(monoNS uint64) error
	Flush() error
	End(*record.End) error // the last call
}

// OwnerRecorder is a [Recorder] that keeps the owner of an event after the event, when it is looked up. Other recorders
// get the owners with the events, for which all are looked up.
type OwnerRecorder interface {
	Owner(*events.Event)
}

// DiscardRecorder is a [Recorder] that keeps nothing.
type DiscardRecorder struct{}

// Write keeps nothing.
func (DiscardRecorder) Write(*events.Event) error { return nil }

// Idle keeps nothing.
func (DiscardRecorder) Idle(uint64) error { return nil }

// Flush does nothing.
func (DiscardRecorder) Flush() error { return nil }

// End keeps nothing.
func (DiscardRecorder) End(*record.End) error { return nil }

// Observer counts endings. shown says whether they match the display filter.
type Observer interface {
	Observe(e *events.Ending, shown bool)
}

// Options say how a [Stream] treats events and endings. The zero value shows every ending and keeps nothing.
type Options struct {
	Limit  uint64 // stop after this many shown endings; 0: no limit
	Filter filter.Endings
	// Summary says how the summary looks. HidesNoEffect keeps endings without an effect from the sink:
	// [events.Ending.HasNoEffect]. Observers get them.
	Summary sink.SummaryOptions

	Resolvers Resolvers
	Recorder  Recorder // nil keeps nothing
	// RecordOnly: events are recorded and not classified. The sink gets nothing.
	RecordOnly bool
	recording  *recording // by [Options.RecordTo]
	// Amend, if it is not nil, gets each ending before the filter, may add to it, and reports whether it is one at all.
	Amend     func(*events.Ending) bool
	Observers []Observer
	// OutputClosed reports whether the reader of the sink's output has closed it. It is asked when there is nothing
	// to write; nil never asks.
	OutputClosed func() bool
	// Interrupted is closed once the user has asked for the end.
	Interrupted <-chan struct{}
	Stderr      io.Writer
	// SummaryTo is where the summary is printed as JSON after the endings; nil: nowhere.
	SummaryTo io.Writer
	// OnSummary gets the summary as well, with the header of what it is about; nil: there is nothing to get it. Of several
	// recordings it gets that of each, and then that of all, which has Parts.
	OnSummary func(events.Header, *sink.Summary)
	// LossesTo is where losses are reported while they happen; nil: nowhere.
	LossesTo io.Writer
	// ReportError prints an error and its hint.
	ReportError func(error)
}

// summaryObserver counts endings into a summary.
type summaryObserver struct{ *sink.Summary }

func (s summaryObserver) Observe(e *events.Ending, shown bool) {
	if shown {
		s.Add(e)
	} else {
		s.LeaveOut(e)
	}
}

// auditObserver counts endings, shown or not, against the kernel's counters.
type auditObserver struct{ *sink.Audit }

func (a auditObserver) Observe(e *events.Ending, _ bool) { a.Add(e) }
