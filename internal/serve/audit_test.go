package serve

import (
	"maps"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/live"
	"github.com/closetrace/closetrace/internal/netns"
	"github.com/closetrace/closetrace/internal/sink"
)

// world is a machine whose RSTs are counted by network namespace.
type world struct {
	clock uint64
	rsts  map[uint32]uint64
}

func (w *world) audit() *audit {
	a := newAudit(&live.System{}, live.CounterOptions{})
	a.now = func() uint64 { return w.clock }
	a.read = func() map[uint32]sink.Counters {
		all := map[uint32]sink.Counters{}
		for inode, n := range w.rsts {
			all[inode] = sink.Counters{"TcpOutRsts": n, "TcpOutSegs": 2 * n}
		}
		return all
	}
	return a
}

// reset counts a RST and returns its ending.
func (w *world) reset(inode uint32) *events.Ending {
	w.clock++
	w.rsts[inode]++
	return &events.Ending{Netns: inode, MonoNS: w.clock, Path: events.ReplyNoSocket, RST: true}
}

func unexplainedRSTs(t *testing.T, a *audit, want uint64) {
	t.Helper()
	a.compare()
	if got := a.unexplained(0)["TcpOutRsts"]; got != want {
		t.Errorf("%d RSTs unexplained, want %d", got, want)
	}
}

func TestAudit(t *testing.T) {
	w := &world{clock: 100, rsts: map[uint32]uint64{1: 50, 2: 0}}
	a := w.audit()
	if a.compare(); a.unexplained(0) != nil {
		t.Error("compared before the first reading")
	}
	a.begin()
	a.Observe(&events.Ending{Netns: 1, MonoNS: 99, Path: events.ReplyNoSocket, RST: true}, false) // before it began
	first, late := w.reset(1), w.reset(1)
	a.Observe(first, true)
	w.reset(1) // never reported
	w.clock++
	a.take()
	a.Observe(late, true)       // concluded after the moment, of before
	a.Observe(w.reset(1), true) // of after the moment
	unexplainedRSTs(t, a, 1)
	w.clock++
	a.take()
	unexplainedRSTs(t, a, 1)
	if got := a.unexplained(1)["TcpOutRsts"]; got != 0 {
		t.Errorf("%d unexplained, although the rate limit left one out", got)
	}

	// Other namespaces are compared as well, a new one from when it is seen first.
	a.Observe(w.reset(2), true)
	w.reset(2)
	w.rsts[3] = 7
	w.clock++
	a.take()
	unexplainedRSTs(t, a, 2)
	a.Observe(w.reset(3), true)
	w.reset(3)
	w.clock++
	a.take()
	unexplainedRSTs(t, a, 3)

	// One that is gone is not compared, nor what has its number later.
	delete(w.rsts, 3)
	a.take()
	unexplainedRSTs(t, a, 2)
	w.rsts[2] = 0
	w.clock++
	a.take()
	unexplainedRSTs(t, a, 1)
}

// A new namespace may have the number of one that is gone, and have sent more already, but fewer RSTs.
func TestNumberUsedAgain(t *testing.T) {
	a := (&world{}).audit()
	var now sink.Counters
	a.read = func() map[uint32]sink.Counters { return map[uint32]sink.Counters{3: now} }
	now = sink.Counters{"TcpOutRsts": 9, "TcpOutSegs": 10}
	a.begin()
	now = sink.Counters{"TcpOutRsts": 0, "TcpOutSegs": 50}
	a.take()
	unexplainedRSTs(t, a, 0)
	now = sink.Counters{"TcpOutRsts": 1, "TcpOutSegs": 51}
	a.take()
	unexplainedRSTs(t, a, 1)
}

// A RST that is concluded while the counters are read, after those of its namespace were, moves them until the next
// reading, also of a namespace that is new in this one or has the number of another.
func TestEndingsWhileReading(t *testing.T) {
	w := &world{clock: 100, rsts: map[uint32]uint64{1: 50, 2: 50}}
	a := w.audit()
	a.begin()
	w.clock++
	read, during := a.read, func() {}
	a.read = func() map[uint32]sink.Counters {
		defer func() { during() }()
		return read()
	}
	w.rsts[2], w.rsts[3] = 7, 7
	a.Observe(w.reset(3), true) // before the reading, which includes it
	during = func() {
		for inode := range uint32(3) {
			a.Observe(w.reset(inode+1), true)
		}
		w.clock++
	}
	a.take()
	during = func() {}
	w.clock++
	a.take()
	unexplainedRSTs(t, a, 0)
	w.reset(3)
	w.clock++
	a.take()
	unexplainedRSTs(t, a, 1)
}

// Endings of many namespaces take a bounded memory.
func TestAuditIsBounded(t *testing.T) {
	w := &world{rsts: map[uint32]uint64{}}
	a := w.audit()
	a.begin()
	for inode := range uint32(10_000) {
		a.Observe(w.reset(inode), true)
	}
	if len(a.spaces) > maxSpaces+1 {
		t.Errorf("%d namespaces", len(a.spaces))
	}
}

// The counters are those that the trace compares at its end.
func TestCountersOf(t *testing.T) {
	system := &live.System{
		ReadCounters: func(path string, inode uint32) (sink.Counters, error) {
			if path != "/run/netns/web" {
				t.Errorf("%q", path)
			}
			return sink.Counters{"TcpOutRsts": uint64(inode)}, nil
		},
		ReadOthers: func(except uint32, limit int) netns.Readings {
			return netns.Readings{Counters: map[uint32]map[string]uint64{2: {}, 3: {}}}
		},
	}
	for _, test := range []struct {
		o    live.CounterOptions
		want map[uint32]bool
	}{
		{live.CounterOptions{Netns: 1, Path: "/run/netns/web"}, map[uint32]bool{1: true}},
		{live.CounterOptions{Netns: 1, Path: "/run/netns/web", Others: true}, map[uint32]bool{1: true, 2: true, 3: true}},
		{
			live.CounterOptions{Netns: 1, Path: "/run/netns/web", Others: true, Those: []uint32{3}},
			map[uint32]bool{1: true, 3: true},
		},
		{live.CounterOptions{Netns: 1, Skip: "a filter"}, map[uint32]bool{}},
	} {
		got := map[uint32]bool{}
		for inode := range countersOf(system, test.o) {
			got[inode] = true
		}
		if !maps.Equal(got, test.want) {
			t.Errorf("%+v: %v", test.o, got)
		}
	}
}
