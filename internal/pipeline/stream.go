package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/sink"
)

// drainTimeout bounds how long draining may keep a user waiting who has asked for the end.
const drainTimeout = time.Second

// Stream carries the events of one source to one sink.
type Stream struct {
	options      Options
	source       Source
	sourceMu     sync.Mutex // serializes Losses and Detach
	resolvers    []Resolver
	classifier   *classify.Classifier
	sink         Sink
	filtered     bool // by options.Filter
	drainTimeout time.Duration
	onPanic      func()

	event       events.Event // reused
	waiting     waiting      // events whose stack is not named yet, and those after them
	order       order        // endings for the sink that were not written yet
	newest      uint64       // the highest time of an event
	recorded    uint64       // events, without a classifier
	marked      uint64       // of these, at the last idle mark
	concluded   uint64       // endings, shown or not
	shown       uint64       // endings that are for the sink
	undecodable uint64
	discarded   uint64 // events that the source held at the end and that were not classified
	losses      events.Losses
	counted     map[events.Path]uint64 // by the source, at the end
	lossNotice  lossNotice
	clock       wallClock
	sinkErr     error  // the first
	unwritten   uint64 // endings after it
}

// New returns a stream from a source to a sink. The caller closes the source.
func New(src Source, out Sink, o Options) *Stream {
	s := &Stream{
		options: o, source: src, classifier: classify.New(src.Header()), sink: out,
		filtered: !o.Filter.Empty(), drainTimeout: drainTimeout, lossNotice: lossNotice{out: o.LossesTo},
		clock: wallClock{offset: src.Header().WallOffsetNS},
	}
	Begin(out, src.Header())
	if o.Recorder == nil {
		s.options.Recorder = DiscardRecorder{}
	}
	if src.Counted() != nil {
		s.classifier.Notes, s.classifier.PeerFIN = src.Notes, src.PeerFIN
	}
	s.resolvers, s.classifier.Complete = o.Resolvers.split(o.Recorder, o.RecordOnly)
	return s
}

// Header returns the header of the source.
func (s *Stream) Header() events.Header { return s.source.Header() }

// Losses returns what the source has lost so far. It may be called at any time from any goroutine.
func (s *Stream) Losses() events.Losses {
	s.sourceMu.Lock()
	defer s.sourceMu.Unlock()
	return s.source.Losses()
}

// Counted returns how many endings the source counted instead of reporting them, by path; nil if it reports all. It may
// be called at any time from any goroutine.
func (s *Stream) Counted() map[events.Path]uint64 {
	s.sourceMu.Lock()
	defer s.sourceMu.Unlock()
	return s.source.Counted()
}

func (s *Stream) detach() error {
	s.sourceMu.Lock()
	defer s.sourceMu.Unlock()
	return s.source.Detach()
}

// OnPanic sets what to do before a panic of the stream's goroutine ends the process.
func (s *Stream) OnPanic(do func()) { s.onPanic = do }

// Flow carries events until ctx ends, the limit is reached or something fails. Then it detaches the source, drains
// what the kernel side had reported by then, and closes the sink. It returns what the source has lost.
//
// Events flow on a goroutine of their own, because a write to standard output may block for as long as its reader
// likes, and detaching must not. Meanwhile the kernel side goes on: its ring buffer is the queue, and it counts what
// it has no room for.
func (s *Stream) Flow(ctx context.Context) (events.Losses, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	detached, done := make(chan struct{}), make(chan error, 1)
	go func() {
		defer s.recoverPanic()
		err := s.live(ctx)
		stop()
		<-detached
		if err == nil {
			err = s.drain()
		} else {
			s.writeHeld()
		}
		done <- err
	}()
	<-ctx.Done()
	before := s.Losses()
	err := s.detach()
	if s.interrupted() && s.options.Summary.IsTerminal {
		fmt.Fprintln(s.options.Stderr) // behind ^C, which the kernel shows a moment after it has sent the signal
	}
	s.losses = atLeast(before, s.Losses())
	close(detached)
	if flowErr := <-done; flowErr != nil {
		err = flowErr
	}
	s.counted = s.Counted()
	s.losses.LostRecords += s.discarded
	return s.losses, err
}

// recoverPanic is for a goroutine to defer: after a panic it calls onPanic, and panics again.
func (s *Stream) recoverPanic() {
	if s.onPanic == nil {
		return
	}
	if p := recover(); p != nil {
		s.onPanic()
		panic(p)
	}
}

// atLeast returns the higher of two readings, field by field: a detached probe may report fewer misses than before.
func atLeast(a, b events.Losses) events.Losses {
	return events.Losses{
		LostRecords:  max(a.LostRecords, b.LostRecords),
		MissedProbes: max(a.MissedProbes, b.MissedProbes),
		Suppressed:   max(a.Suppressed, b.Suppressed),
	}
}

// Complete adds to a summary of the endings what the stream lost, could not decode or write, or did not explain.
func (s *Stream) Complete(sum *sink.Summary) {
	sum.LostRecords, sum.MissedProbes, sum.Suppressed = s.losses.LostRecords, s.losses.MissedProbes, s.losses.Suppressed
	sum.Undecodable, sum.Unexplained = s.undecodable, s.classifier.Unexplained
	sum.Counted = s.counted
	sum.Unwritten = s.notWritten()
}

// notWritten returns how many endings the output may lack, of those that were for the sink: see
// [sink.Summary.Unwritten].
func (s *Stream) notWritten() uint64 { return s.unwritten + linesLost(s.sinkErr) }

// live reads until ctx ends, the limit is reached or the sink fails.
func (s *Stream) live(ctx context.Context) error {
	for ctx.Err() == nil && !s.full() && s.sinkErr == nil {
		err := s.next()
		if err == nil {
			continue
		}
		if errors.Is(err, events.ErrIdle) {
			err = s.idle()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// drain reads what is left after detaching. It does so even if the sink has failed: the summary counts all that
// happened, and what of it was not written.
func (s *Stream) drain() error {
	for begin := time.Now(); !s.full(); {
		if s.interrupted() && time.Since(begin) > s.drainTimeout {
			if err := s.discardRest(); err != nil {
				return err
			}
			break
		}
		err := s.next()
		if errors.Is(err, events.ErrIdle) {
			break
		}
		if err != nil {
			return err
		}
	}
	return s.finish()
}

// finish reports pending endings and closes the sink.
func (s *Stream) finish() error {
	if err := s.waiting.releaseAll(s.pass); err != nil {
		return err
	}
	s.classifier.Flush(s.emit)
	s.order.releaseAll(s.deliver)
	if s.sinkErr == nil {
		s.sinkErr = OutputFailure(s.sink.Close())
	}
	return s.sinkErr
}

// writeHeld writes the endings that were concluded before the source failed.
func (s *Stream) writeHeld() {
	s.order.releaseAll(s.deliver)
	if s.sinkErr == nil {
		s.sinkErr = OutputFailure(s.sink.Flush())
	}
}

// interrupted reports whether the user waits for the end.
func (s *Stream) interrupted() bool {
	select {
	case <-s.options.Interrupted:
		return true
	default:
		return false
	}
}

// discardRest counts the events that are left, without classifying them: they are lost. What the source lost itself is
// passed on.
func (s *Stream) discardRest() error {
	loss := events.Event{Kind: events.KindLoss}
	first := uint64(math.MaxUint64)
	for s.source.Read(&s.event) == nil {
		if s.event.Kind == events.KindLoss {
			s.lossNotice.add(&s.event)
			if err := s.pass(&s.event); err != nil {
				return err
			}
			continue
		}
		s.discarded++
		first, loss.MonoNS = min(first, s.event.MonoNS), max(loss.MonoNS, s.event.MonoNS)
	}
	fmt.Fprintf(s.options.Stderr, "closetrace: gave up draining the buffer after %s; %d records discarded\n",
		s.drainTimeout, s.discarded)
	if s.discarded == 0 {
		return nil
	}
	loss.DurationNS, loss.LostRecords = loss.MonoNS-first, uint32(min(s.discarded, math.MaxUint32))
	return s.pass(&loss)
}

// next reads one event, completes, records and classifies it. [events.ErrIdle] means that there is none for now.
func (s *Stream) next() error {
	err := s.source.Read(&s.event)
	switch {
	case err == nil && s.event.Kind == events.KindLoss:
		s.lossNotice.add(&s.event)
		return s.pass(&s.event) // before events that wait: they may rest on its time
	case err == nil:
		for _, resolve := range s.resolvers {
			resolve(&s.event)
		}
		return s.enqueue()
	case hint.Is(err, hint.Undecodable):
		if s.undecodable++; s.undecodable == 1 {
			s.options.ReportError(err)
		}
		return nil
	case errors.Is(err, os.ErrClosed):
		return errors.New("the source of events was closed")
	}
	return err
}

// enqueue passes on the event that was read, in order, as soon as the functions of its stack are named.
func (s *Stream) enqueue() error {
	name := s.options.Resolvers.NameStack
	if name == nil {
		return s.pass(&s.event)
	}
	s.waiting.add(&s.event, name(&s.event))
	return s.releaseNamed()
}

// releaseNamed passes on the events whose stacks are named. If others wait, it looks again soon.
func (s *Stream) releaseNamed() error {
	err := s.waiting.release(s.pass)
	if !s.waiting.empty() {
		s.source.PollSoon()
	}
	return err
}

// pass records and, unless that is all, classifies an event.
func (s *Stream) pass(ev *events.Event) error {
	if err := s.options.Recorder.Write(ev); err != nil {
		return err
	}
	ev.Record = nil // it is valid only until the next one is read
	if s.options.RecordOnly {
		s.recorded++
		return nil
	}
	s.newest = max(s.newest, ev.MonoNS)
	s.classifier.Push(ev, s.emit)
	s.order.release(s.newest, s.deliver)
	return nil
}

// idle uses a moment without events to report pending endings that are due, to look at the clock and to flush. Its
// error is the recorder's.
func (s *Stream) idle() error {
	s.lossNotice.report()
	if err := s.releaseNamed(); err != nil {
		return err
	}
	if s.waiting.empty() {
		now := s.source.IdleNS()
		if err := s.recordIdle(now, s.conclude(now)); err != nil {
			return err
		}
		if s.order.empty() && !s.classifier.DueBefore(now+uint64(events.LaterTick)) {
			s.source.PollLater()
		}
	}
	s.followClock()
	if s.sinkErr == nil {
		s.sinkErr = OutputFailure(s.sink.Flush())
	}
	if s.sinkErr == nil && s.options.OutputClosed != nil && s.options.OutputClosed() {
		s.sinkErr = OutputFailure(syscall.EPIPE)
	}
	return nil
}

// conclude concludes and writes the endings that are due, and reports whether there were any. Without a classifier, a
// replay may find some at the end of each burst of events.
func (s *Stream) conclude(now uint64) bool {
	if s.options.RecordOnly {
		before := s.marked
		s.marked = s.recorded
		return s.recorded != before
	}
	before := s.classified()
	s.classifier.Advance(now, s.emit)
	written := s.order.release(now, s.deliver)
	return written || s.classified() != before
}

// classified returns how many verdicts the classifier has reached.
func (s *Stream) classified() uint64 { return s.concluded + s.classifier.Unexplained }

// recordIdle records the moment if endings were or may be concluded or written at it, so that a replay does the same
// then, and has the same order.
func (s *Stream) recordIdle(now uint64, used bool) error {
	if used {
		if err := s.options.Recorder.Idle(now); err != nil {
			return err
		}
	}
	return s.options.Recorder.Flush()
}

func (s *Stream) full() bool { return s.options.Limit > 0 && s.shown >= s.options.Limit }

// emit passes an ending of the classifier to the sink, if it is to be shown, and to the observers.
func (s *Stream) emit(e *events.Ending) {
	s.concluded++
	if s.full() || s.options.Amend != nil && !s.options.Amend(e) {
		return
	}
	shown := !s.filtered || s.options.Filter.Match(e)
	for _, o := range s.options.Observers {
		o.Observe(e, shown)
	}
	if shown && !(s.options.Summary.HidesNoEffect && e.HasNoEffect()) {
		s.write(e)
		s.classifier.Reuse(s.order.spare())
	}
}

// write counts an ending as shown, and holds it until it is delivered in order.
func (s *Stream) write(e *events.Ending) {
	s.shown++
	s.order.add(e, s.deliver)
}

// deliver writes an ending to the sink.
func (s *Stream) deliver(e *events.Ending) {
	if s.sinkErr != nil {
		s.unwritten++
		return
	}
	s.sinkErr = OutputFailure(s.sink.Write(e))
}

// OutputError means that standard output, or the file instead of it, did not take what was written.
type OutputError struct{ Err error }

// Error says so and why. The error of a file names the file.
func (o *OutputError) Error() string {
	var file *fs.PathError
	if errors.As(o.Err, &file) && file.Path != os.Stdout.Name() {
		return o.Err.Error()
	}
	return "writing to standard output: " + o.Err.Error()
}

// Unwrap returns the reason.
func (o *OutputError) Unwrap() error { return o.Err }

// OutputFailure returns err as an [*OutputError], or nil.
func OutputFailure(err error) error {
	if err == nil {
		return nil
	}
	return &OutputError{err}
}

// print prints the summary for people, and for programs if they ask for it, and passes it on.
func (s *Stream) print(sum *sink.Summary) error {
	if s.options.OnSummary != nil {
		s.options.OnSummary(s.Header(), sum)
	}
	err := sum.Print(s.options.Stderr)
	if s.options.SummaryTo == nil {
		return err
	}
	return cmp.Or(OutputFailure(sum.PrintJSON(s.options.SummaryTo, s.Header())), err)
}
