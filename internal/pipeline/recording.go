package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/rights"
	"github.com/closetrace/closetrace/internal/sink"
)

// recording is a [Recorder] to a file. If the file takes no more, for example because the disk is full, the recording
// ends and the run goes on: End returns why.
type recording struct {
	files  *record.Files
	stderr io.Writer
	all    bool  // recording is all that the run does: a failure ends it
	failed error // the first failure, after which nothing is recorded
	// hasFailed: failed is an error. It may be read from any goroutine.
	hasFailed atomic.Bool

	written uint64 // events, without losses

	// The last event, which is written with the next one: its owner may be found meanwhile, and those of events that it
	// concludes have to come before it. Without a classifier there is none.
	classified bool
	last       events.Event
	record     []byte // of last
	hasLast    bool
}

// RecordingOptions say where to record. The zero value: nowhere.
type RecordingOptions struct {
	Path     string
	Force    bool // replace the file
	Rotation record.Rotation
	Trigger  Trigger
	// Only: nothing else is done. Without a trigger, events are not classified.
	Only bool
}

// OnlyFile returns the file that is recorded to, "" if there is none, or if rotation makes names of its own.
func (r *RecordingOptions) OnlyFile() string {
	if r.Rotation.Active() {
		return ""
	}
	return r.Path
}

// Copies reports whether only the records of the kernel side are needed: they are copied, and nothing else is done.
func (r *RecordingOptions) Copies() bool {
	return r.Only && !r.Trigger.Active() && record.HoldsRecords(r.Path)
}

// RecordTo begins a recording of events under h, and makes the options those of a run that is recorded.
func (o *Options) RecordTo(r RecordingOptions, h events.Header) error {
	to, err := createRecording(r, h, o)
	if err != nil {
		return err
	}
	o.recording, o.Recorder = to, to
	if !r.Trigger.Active() {
		o.RecordOnly = r.Only
		return nil
	}
	t := newTriggered(to, r.Trigger, h.CloseWaitNS)
	o.Recorder, o.Observers = t, append(o.Observers, t)
	return nil
}

// createRecording begins a recording of events under h.
func createRecording(r RecordingOptions, h events.Header, o *Options) (*recording, error) {
	files, err := record.CreateFiles(r.Path, h, record.Options{
		Force: r.Force, Rotation: r.Rotation, As: rights.AsUser,
		Through: func(w io.Writer) io.Writer { return NewDeadlineWriter(w, o.Interrupted) },
	})
	if err != nil {
		return nil, fmt.Errorf("recording: %w", err) // which names the file
	}
	return &recording{
		files: files, stderr: o.Stderr, all: r.Only, classified: !r.Only || r.Trigger.Active(),
	}, nil
}

// Write records an event.
func (r *recording) Write(ev *events.Event) error {
	if ev.Kind != events.KindLoss {
		r.written++
	}
	if !r.classified {
		if r.failed == nil {
			r.fail(r.files.Write(ev))
		}
		return r.failed
	}
	err := r.writeLast()
	r.record = append(r.record[:0], ev.Record...)
	r.last, r.hasLast = *ev, true
	r.last.Record = nil
	if ev.Record != nil {
		r.last.Record = r.record
	}
	return err
}

func (r *recording) writeLast() error {
	if !r.hasLast {
		return nil
	}
	r.hasLast = false
	return r.attempt(func() error { return r.files.Write(&r.last) })
}

// Owner records the owner of an event. If that fails, the next write returns the error.
func (r *recording) Owner(ev *events.Event) {
	if r.hasLast && isSame(&r.last, ev) {
		r.last.Owner = ev.Owner
		return
	}
	_ = r.attempt(func() error { return r.files.Owner(ev) })
}

// isSame reports whether two events are the same one.
func isSame(a, b *events.Event) bool {
	return a.MonoNS == b.MonoNS && a.Sock == b.Sock && a.Kind == b.Kind
}

// Idle records a moment without events.
func (r *recording) Idle(monoNS uint64) error {
	if err := r.writeLast(); err != nil {
		return err
	}
	return r.attempt(func() error { return r.files.Idle(monoNS) })
}

// Flush gives to the system what was recorded, so that it survives a SIGKILL.
func (r *recording) Flush() error {
	if err := r.writeLast(); err != nil {
		return err
	}
	return r.attempt(r.files.Flush)
}

// attempt records unless that has failed before. If a recording is not all that is made, it returns nil, and reports
// the first failure at once.
func (r *recording) attempt(do func() error) error {
	known := r.failed != nil
	if !known {
		r.fail(do())
	}
	if r.all {
		return r.failed
	}
	if r.failed != nil && !known {
		fmt.Fprintf(r.stderr, "closetrace: %s; tracing goes on\n", sink.OneLine(r.failure(r.failed).Error()))
	}
	return nil
}

// End completes the recording. It returns the first failure, if there was one.
func (r *recording) End(e *record.End) error {
	_ = r.writeLast() // the recording remembers its error
	err := r.files.Close(e)
	r.fail(cmp.Or(r.failed, err))
	return r.failure(r.failed)
}

// fail keeps the first failure; nil is none.
func (r *recording) fail(err error) {
	if r.failed = err; err != nil {
		r.hasFailed.Store(true)
	}
}

func (r *recording) failure(err error) error {
	if err == nil {
		return nil
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		err = file.Err // the path is named already
	}
	if errors.Is(err, syscall.EPIPE) { // nothing stays in a FIFO
		return &hint.Error{
			What: fmt.Sprintf("the recording %s is incomplete: its reader closed it", r.files.Path()),
			Hint: "end closetrace before the reader",
		}
	}
	return &hint.Error{
		What: fmt.Sprintf("the recording %s is incomplete: %v", r.files.Path(), err),
		Hint: "closetrace replay shows what is in it",
	}
}

// endOf returns what a recording keeps of the summary; the rest follows from the events.
func endOf(s *sink.Summary) *record.End {
	return &record.End{
		TookNS:      int64(s.Took),
		LostRecords: s.LostRecords, MissedProbes: s.MissedProbes, Suppressed: s.Suppressed, Undecodable: s.Undecodable,
		Audit: record.Audit{
			Impossible: s.Audit.Impossible,
			Moved:      nonZero(s.Audit.Moved), Edges: nonZero(s.Audit.Edges),
			Others: othersOf(s.Audit),
		},
	}
}

func nonZero(all sink.Counters) map[string]uint64 {
	moved := map[string]uint64{}
	for name, n := range all {
		if n != 0 {
			moved[name] = n
		}
	}
	return moved
}

// othersOf returns the counters of other network namespaces, without those that did not move.
func othersOf(a *sink.Audit) []record.NetnsAudit {
	var all []record.NetnsAudit
	for _, o := range a.Others {
		all = append(all, record.NetnsAudit{
			Netns: o.Netns, Impossible: o.Impossible, New: o.New, Moved: nonZero(o.Moved), Edges: nonZero(o.Edges),
		})
	}
	return all
}

// restore completes the summary of a replay by the end of its recording, if it has one.
func restore(s *sink.Summary, end *record.End) {
	if end == nil {
		s.NoEnd, s.Audit.Impossible = true, "the end of the recording was not read"
		return
	}
	s.Took = time.Duration(end.TookNS)
	s.LostRecords, s.MissedProbes, s.Suppressed = end.LostRecords, end.MissedProbes, end.Suppressed
	s.Undecodable += end.Undecodable
	s.Audit.Impossible, s.Audit.Moved, s.Audit.Edges = end.Audit.Impossible, end.Audit.Moved, end.Audit.Edges
	for _, o := range end.Audit.Others {
		s.Audit.Others = append(s.Audit.Others, sink.NetnsCounters{
			Netns: o.Netns, Impossible: o.Impossible, New: o.New, Moved: o.Moved, Edges: o.Edges,
		})
	}
}
