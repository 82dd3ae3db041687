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
	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
)

// endings is where endings go. An ending is valid during Write only.
type endings interface {
	Write(*events.Ending) error
	Flush() error
	Close() error
}

// stream is the way from the source of facts to the sink of endings.
type stream struct {
	source     source
	classifier *classify.Classifier
	sink       endings
	limit      uint64 // of endings; 0 is none
	clock      func() uint64
	unread     func() bool
	stderr     io.Writer
	// owners, if set, finds who holds the socket of what is nobody's call.
	owners *enrich.Owners
	// fact and taken, if set, see each event and each ending that the sink
	// took.
	fact  func(*events.Event)
	taken func(*events.Ending)

	event       events.Event // reused
	written     uint64
	undecodable uint64
	left        bool  // some of what the source held was not read
	sinkErr     error // the first
}

func newStream(e *env, src source, out endings, limit uint64) *stream {
	return &stream{
		source: src, classifier: classify.New(src.Header()), sink: out, limit: limit,
		clock: e.clock, unread: e.unread, stderr: e.stderr,
	}
}

// How long the end may take.
const (
	// drainTime bounds the reading of what is in the buffer after detaching.
	drainTime = time.Second
	// stallTime is how long standard output may take no data before it is given
	// up.
	stallTime = 1500 * time.Millisecond
)

// errStalled: what reads standard output does not, and was not waited for.
var errStalled = errors.New("standard output takes no data; what was still to be written is lost")

// flow lets facts flow until ctx ends, the limit is reached or something fails;
// then it detaches, drains what the kernel side had reported by then and
// closes the sink.
//
// It flows on a goroutine of its own, because a write to standard output may
// block for as long as its reader likes, and the end must not.
func (s *stream) flow(ctx context.Context) (probe.Losses, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	detached, done := make(chan struct{}), make(chan error, 1)
	go func() {
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
	select {
	case flowed := <-done:
		if flowed != nil {
			err = flowed
		}
		return losses, err
	case <-time.After(stallTime):
		return losses, errStalled
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

// live reads until ctx ends or the limit is reached.
func (s *stream) live(ctx context.Context) error {
	for ctx.Err() == nil && !s.full() {
		err := s.next()
		if errors.Is(err, probe.ErrIdle) {
			err = s.idle()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// drain reads what is left after detaching.
func (s *stream) drain() error {
	for end := time.Now().Add(drainTime); !s.full(); {
		if s.left = time.Now().After(end); s.left {
			fmt.Fprintln(s.stderr, "closetrace: there was more to read at the end than time for it; the rest is left out")
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
	s.classifier.Flush(s.emit)
	if s.sinkErr != nil {
		return s.sinkErr
	}
	return outputError(s.sink.Close())
}

// next takes one fact. [probe.ErrIdle] tells that there is none for now.
func (s *stream) next() error {
	err := s.source.Read(&s.event)
	var record interface{ Undecodable() bool }
	switch {
	case err == nil:
		if s.owners != nil {
			s.owners.Fill(&s.event)
		}
		if s.fact != nil {
			s.fact(&s.event)
		}
		s.classifier.Push(&s.event, s.emit)
		return s.sinkErr
	case errors.As(err, &record) && record.Undecodable():
		if s.undecodable++; s.undecodable == 1 {
			report(s.stderr, err)
		}
		return nil
	case errors.Is(err, os.ErrClosed):
		return errors.New("the source of events was closed")
	}
	return err
}

// idle writes what waits, as nothing else is to be done.
func (s *stream) idle() error {
	s.classifier.Advance(s.clock(), s.emit)
	if s.sinkErr == nil {
		s.sinkErr = outputError(s.sink.Flush())
	}
	if s.sinkErr == nil && s.unread() {
		s.sinkErr = outputError(syscall.EPIPE)
	}
	return s.sinkErr
}

func (s *stream) full() bool { return s.limit > 0 && s.written >= s.limit }

func (s *stream) emit(e *events.Ending) {
	if s.full() || s.sinkErr != nil {
		return
	}
	if s.sinkErr = outputError(s.sink.Write(e)); s.sinkErr != nil {
		return
	}
	s.written++
	if s.taken != nil {
		s.taken(e)
	}
}

func outputError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("writing to standard output: %w", err)
}
