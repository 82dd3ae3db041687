package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/record"
)

// endings is where endings go. An ending is valid during Write only.
type endings interface {
	Write(*events.Ending) error
	Flush() error
	Close() error
}

// recorder keeps the facts on their way to the classifier, and the moments when
// there were none and what was held back was told.
type recorder interface {
	Write(*events.Event) error
	Idle(monoNS uint64) error
	Flush() error
	End(*record.End) error // the last call
}

// forgetful is the recorder that keeps nothing.
type forgetful struct{}

func (forgetful) Write(*events.Event) error { return nil }
func (forgetful) Idle(uint64) error         { return nil }
func (forgetful) Flush() error              { return nil }
func (forgetful) End(*record.End) error     { return nil }

// stream is the way from the source of facts to the sink of endings.
type stream struct {
	source     source
	classifier *classify.Classifier
	sink       endings
	limit      uint64 // of endings; 0 is none
	unread     func() bool
	stderr     io.Writer
	ended      <-chan struct{} // closed once the user wants the end
	drainTime  time.Duration   // how long the user has to wait for the rest
	// look are the look-ups that complete a fact.
	look []func(*events.Event)
	// record keeps what flows.
	record recorder
	// crashed, if set, is called before the process dies of a panic.
	crashed func()
	// wanted, if set, says which endings the sink gets. taken and leftOut, if
	// set, see those that it took and the others; either sees both.
	wanted                 func(*events.Ending) bool
	taken, leftOut, either func(*events.Ending)

	event       events.Event // reused
	concluded   uint64       // endings, shown or not
	told        uint64       // of these, shown
	undecodable uint64
	left        uint64 // facts that the source held and that were not looked at
	sinkErr     error  // the first
	unwritten   uint64 // endings after it
}

func newStream(e *env, src source, out endings, limit uint64) *stream {
	return &stream{
		source: src, classifier: classify.New(src.Header()), sink: out, limit: limit,
		unread: e.unread, stderr: e.stderr, ended: e.ended,
		drainTime: time.Second, record: forgetful{},
	}
}

// lookUp completes each fact. A FIN received has its owner looked up once it is told,
// as most are not, and the search of /proc would be in vain; unless a record is to
// have all, so that a replay tells the same.
func (s *stream) lookUp(l lookUps, recorded bool) {
	if recorded {
		s.look = append(l.rest, l.owner)
		return
	}
	s.classifier.Complete = l.owner
	s.look = append(l.rest, func(ev *events.Event) {
		if ev.Kind != events.KindPeerFIN {
			l.owner(ev)
		}
	})
}

// flow lets facts flow until ctx ends, the limit is reached or something fails;
// then it detaches, drains what the kernel side had reported by then and
// closes the sink.
//
// It flows on a goroutine of its own, because a write to standard output may
// block for as long as its reader likes, and detaching must not. Meanwhile the
// kernel side goes on: its buffer is the queue, and counts what it has no room
// for.
func (s *stream) flow(ctx context.Context) (probe.Losses, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	detached, done := make(chan struct{}), make(chan error, 1)
	go func() {
		defer s.lastWords()
		err := s.live(ctx)
		stop()
		<-detached
		if err == nil {
			err = s.drain()
		}
		done <- err
	}()
	<-ctx.Done()
	before := s.source.Losses()
	err := s.source.Detach()
	losses := atLeast(before, s.source.Losses())
	close(detached)
	if flowed := <-done; flowed != nil {
		err = flowed
	}
	losses.LostRecords += s.left
	return losses, err
}

// lastWords is for a goroutine to defer: if it panics, crashed is called before
// the process dies of it.
func (s *stream) lastWords() {
	if s.crashed == nil {
		return
	}
	if p := recover(); p != nil {
		s.crashed()
		panic(p)
	}
}

// atLeast is the higher of two readings, field by field: after detaching, a
// probe may know less of what its links missed.
func atLeast(a, b probe.Losses) probe.Losses {
	return probe.Losses{
		LostRecords:  max(a.LostRecords, b.LostRecords),
		MissedProbes: max(a.MissedProbes, b.MissedProbes),
		Suppressed:   max(a.Suppressed, b.Suppressed),
	}
}

// live reads until ctx ends, the limit is reached or the sink fails.
func (s *stream) live(ctx context.Context) error {
	for ctx.Err() == nil && !s.full() && s.sinkErr == nil {
		err := s.next()
		if err == nil {
			continue
		}
		if errors.Is(err, probe.ErrIdle) {
			err = s.idle()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// drain reads what is left after detaching. If the sink has failed, it is still
// looked at: the summary tells what happened, and what of it was not written.
func (s *stream) drain() error {
	for begin := time.Now(); !s.full(); {
		if s.hurried() && time.Since(begin) > s.drainTime {
			s.leave()
			break
		}
		err := s.next()
		if errors.Is(err, probe.ErrIdle) {
			break
		}
		if err != nil {
			return err
		}
	}
	return s.finish()
}

// finish tells what was held back and closes the sink.
func (s *stream) finish() error {
	s.classifier.Flush(s.emit)
	if s.sinkErr == nil {
		s.sinkErr = outputError(s.sink.Close())
	}
	return s.sinkErr
}

// hurried tells whether the user waits for the end.
func (s *stream) hurried() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// leave counts what there is no time for.
func (s *stream) leave() {
	for s.source.Read(&s.event) == nil {
		s.left++
	}
	fmt.Fprintf(s.stderr, "closetrace: there was more to read at the end than time for it; %d records are left out\n", s.left)
}

// next takes one fact. [probe.ErrIdle] tells that there is none for now.
func (s *stream) next() error {
	err := s.source.Read(&s.event)
	switch {
	case err == nil:
		for _, fill := range s.look {
			fill(&s.event)
		}
		if err := s.record.Write(&s.event); err != nil {
			return err
		}
		s.classifier.Push(&s.event, s.emit)
		return nil
	case concernsOneRecord(err):
		if s.undecodable++; s.undecodable == 1 {
			report(s.stderr, err)
		}
		return nil
	case errors.Is(err, os.ErrClosed):
		return errors.New("the source of events was closed")
	}
	return err
}

func concernsOneRecord(err error) bool {
	var single interface{ Undecodable() bool }
	return errors.As(err, &single) && single.Undecodable()
}

// idle writes what waits, as nothing else is to be done. Its error is the
// recorder's.
func (s *stream) idle() error {
	now, before := s.source.IdleNS(), s.done()
	s.classifier.Advance(now, s.emit)
	if err := s.keepIdle(now, s.done() != before); err != nil {
		return err
	}
	if s.sinkErr == nil {
		s.sinkErr = outputError(s.sink.Flush())
	}
	if s.sinkErr == nil && s.unread() {
		s.sinkErr = outputError(syscall.EPIPE)
	}
	return nil
}

// done is how many events the classifier is done with.
func (s *stream) done() uint64 { return s.concluded + s.classifier.Unexplained }

// keepIdle keeps the moment if something was told then, so that a replay tells
// it then.
func (s *stream) keepIdle(now uint64, told bool) error {
	if told {
		if err := s.record.Idle(now); err != nil {
			return err
		}
	}
	return s.record.Flush()
}

func (s *stream) full() bool { return s.limit > 0 && s.told >= s.limit }

func (s *stream) emit(e *events.Ending) {
	s.concluded++
	if s.full() {
		return
	}
	if s.either != nil {
		s.either(e)
	}
	if s.wanted != nil && !s.wanted(e) {
		if s.leftOut != nil {
			s.leftOut(e)
		}
		return
	}
	if s.sinkErr == nil {
		s.sinkErr = outputError(s.sink.Write(e))
	} else {
		s.unwritten++
	}
	s.told++
	if s.taken != nil {
		s.taken(e)
	}
}

// outputFailure is that standard output did not take what there is.
type outputFailure struct{ err error }

func (o *outputFailure) Error() string { return "writing to standard output: " + o.err.Error() }
func (o *outputFailure) Unwrap() error { return o.err }

func outputError(err error) error {
	if err == nil {
		return nil
	}
	return &outputFailure{err}
}
