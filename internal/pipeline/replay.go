package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
)

// ReplayOptions say what to replay of a recording.
type ReplayOptions struct {
	Options
	Path string // of the recording, for messages; of several files, what they are
	// Events replaces the filter of the kernel side.
	Events filter.Events
	// Narrow: Events leaves out some endings within a network namespace.
	Narrow bool
}

// Replay carries the events of a recording to out, and prints the summary of the run that made it.
func Replay(ctx context.Context, in *record.Reader, out Sink, o ReplayOptions) error {
	h := in.Header
	in.Name = cmp.Or(in.Name, o.Path)
	fmt.Fprintf(o.Stderr, "closetrace: replay of %s, recorded on %s by %s\n",
		sink.Tame(o.Path), sink.Tame(h.Kernel), sink.Tame(h.Attach))
	sum := sink.Summary{SummaryOptions: o.Summary, Audit: &sink.Audit{
		Netns: h.AuditNetns, Missing: h.Missing, ByTracepoint: h.ByTracepoint(),
	}}
	o.Observers = append(o.Observers, summaryObserver{&sum}, auditObserver{sum.Audit})
	src := &recorded{Reader: in, filter: o.Events}
	o.Resolvers.Owner = in.SetOwner
	s := New(src, out, o.Options)
	err := s.replay(ctx)
	if errors.Is(err, syscall.EPIPE) {
		ReportOutputClosed(o.Stderr)
		return nil
	}
	if err == nil && s.full() {
		err = src.skip(ctx)
	}
	sum.Took, sum.Undecodable, sum.Unexplained = src.took(), s.undecodable, s.classifier.Unexplained
	sum.Unwritten = s.notWritten()
	restore(&sum, src.End)
	o.limitAudit(sum.Audit, s)
	if printErr := s.print(&sum); err == nil {
		err = printErr
	}
	return src.outcome(ctx, err)
}

// Convert prints a recording itself, as format 1.
func Convert(ctx context.Context, in *record.Reader, to io.Writer) error {
	out := &CheckedWriter{Writer: to}
	err := record.Convert(ctx, in, out)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted; the rest is not converted")
	}
	return out.Outcome(err)
}

// LimitReached is why there may be nothing to compare in an audit.
const LimitReached = "--count stopped the run before all events were read"

// limitAudit limits the audit to what this replay shows of the recording, or says why there is nothing to compare.
func (o *ReplayOptions) limitAudit(a *sink.Audit, s *Stream) {
	switch {
	case s.full():
		a.Skip(LimitReached)
	case o.Narrow:
		a.Skip(sink.FiltersUncounted)
	case len(o.Events.Netns) > 0 && !a.Only(o.Events.Netns):
		a.Skip("the recording has the counters of another network namespace")
	}
}

// replay carries recorded events until there are no more.
func (s *Stream) replay(ctx context.Context) error {
	err := s.live(ctx)
	if finishErr := s.finish(); err == nil || errors.Is(err, io.EOF) {
		err = finishErr
	}
	return err
}

// recorded is a source of recorded events.
type recorded struct {
	events.ReportsAll
	*record.Reader
	filter      filter.Events
	first, last uint64 // CLOCK_MONOTONIC of what was read
}

func (r *recorded) Header() events.Header { return r.Reader.Header }

func (r *recorded) IdleNS() uint64 { return r.Reader.IdleNS }

// PollSoon does nothing: a recording is always ready.
func (r *recorded) PollSoon() {}

// PollLater does nothing either.
func (r *recorded) PollLater() {}

func (r *recorded) Read(ev *events.Event) error {
	for {
		err := r.Reader.Read(ev)
		switch {
		case err == nil:
		case hint.Is(err, hint.Undecodable):
			return fmt.Errorf("%s: %w", r.Name, err)
		default:
			return err
		}
		if r.first == 0 {
			r.first = ev.MonoNS
		}
		r.last = max(r.last, ev.MonoNS)
		if r.filter.Match(ev) {
			return nil
		}
	}
}

// skip reads to the end of the recording, for its last line.
func (r *recorded) skip(ctx context.Context) error {
	var ev events.Event
	for ctx.Err() == nil {
		err := r.Reader.Read(&ev)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.As(err, new(*record.Damage)) {
			return err
		}
	}
	return nil
}

// outcome returns err, or else what is wrong with the recording.
func (r *recorded) outcome(ctx context.Context, err error) error {
	var damage *record.Damage
	switch {
	case errors.As(err, &damage):
		return hint.New(hint.Incomplete, fmt.Sprintf("%s is damaged: %v", r.Name, damage), damage.Hint("shown"))
	case err == nil && ctx.Err() == nil && r.End == nil:
		return hint.New(hint.Incomplete, r.Name+" is truncated: cut off, or closetrace was killed while recording",
			"everything before that was shown")
	}
	return err
}

// took returns how long the run lasted by its events.
func (r *recorded) took() time.Duration { return time.Duration(r.last - min(r.first, r.last)) }

// Losses, Detach and Close are for live sources.
func (r *recorded) Losses() events.Losses { return events.Losses{} }
func (r *recorded) Detach() error         { return nil }
func (r *recorded) Close() error          { return nil }
