package pipeline

import (
	"context"
	"io"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/test/fake"
)

// sleeper is a source of one RST received and of idle moments, which notes from when on the next one may come later.
type sleeper struct {
	fake.Source
	now   uint64
	later []uint64
	done  func()
}

func (s *sleeper) Read(ev *events.Event) error {
	s.now += 10 * ms
	switch s.now {
	case 50 * ms:
		*ev = events.Event{
			Kind: events.KindDone, MonoNS: s.now, Sock: 1, Before: events.Established, After: events.Close, SockErr: 104,
		}
		return nil
	case 300 * ms:
		s.done()
	}
	return events.ErrIdle
}

func (s *sleeper) IdleNS() uint64 { return s.now }
func (s *sleeper) PollLater()     { s.later = append(s.later, s.now) }

// A source is polled later only while no ending waits for an event, for those before it, or to be written.
func TestPollLater(t *testing.T) {
	s := &sleeper{}
	var written uint64
	r := run(s, DiscardSink{}, Options{
		Stderr: io.Discard, Observers: []Observer{&onFirst{func() { written = s.now }}},
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.done = cancel
	if _, err := r.Flow(ctx); err != nil {
		t.Fatal(err)
	}
	if written < 150*ms {
		t.Fatalf("written at %d ms: it waits for a call", written/ms)
	}
	for _, at := range s.later {
		if at >= 50*ms && at < written {
			t.Errorf("to be polled later at %d ms, before the ending is written at %d ms", at/ms, written/ms)
		}
	}
	if len(s.later) == 0 || s.later[0] != 10*ms || s.later[len(s.later)-1] != 300*ms {
		t.Errorf("polled later at %v", s.later)
	}
}
