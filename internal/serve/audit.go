package serve

import (
	"context"
	"sync"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/sink"
)

// auditEvery is how often the kernel's counters are compared with the endings. settle is the time after which an
// ending has been concluded.
const (
	auditEvery = 15 * time.Second
	settle     = 5 * time.Second
)

// audit compares, again and again, the kernel's counters of a network namespace with the endings in it.
//
// The counters are read at a moment, and compared once the endings until that moment are concluded.
type audit struct {
	netns uint32
	read  func() (sink.Counters, error) // nil: not compared

	mu         sync.Mutex
	base       sink.Counters // when tracing began
	explained  events.Moved  // by endings until the moment
	after      events.Moved  // by later ones
	moment     uint64        // CLOCK_MONOTONIC
	difference map[string]uint64
}

func newAudit(read func(path string, netns uint32) (sink.Counters, error), o pipeline.CounterOptions) *audit {
	a := &audit{netns: o.Netns}
	if o.Skip == "" {
		a.read = func() (sink.Counters, error) { return read(o.Path, o.Netns) }
	}
	return a
}

// begin reads the counters from which on they are compared.
func (a *audit) begin() {
	if a.read == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	base, err := a.read()
	if err != nil {
		a.read = nil
		return
	}
	a.base, a.moment = base, kernel.MonoNow()
	a.explained, a.after = events.Moved{}, events.Moved{}
}

// Observe counts what an ending explains.
func (a *audit) Observe(e *events.Ending, _ bool) {
	if e.Netns != a.netns {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.MonoNS <= a.moment {
		a.explained.Add(e)
	} else {
		a.after.Add(e)
	}
}

// run compares until ctx ends.
func (a *audit) run(ctx context.Context) {
	for a.read != nil && wait(ctx, auditEvery) {
		now, err := a.take()
		if err != nil || !wait(ctx, settle) {
			continue
		}
		a.compare(now)
	}
}

// take reads the counters. From now on, endings until this moment are counted apart.
func (a *audit) take() (sink.Counters, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, err := a.read()
	if err != nil {
		return nil, err
	}
	for i := range a.after {
		a.explained[i] += a.after[i]
	}
	a.after, a.moment = events.Moved{}, kernel.MonoNow()
	return now, nil
}

// compare sets by how much the counters have moved beyond what the endings explain.
func (a *audit) compare(now sink.Counters) {
	a.mu.Lock()
	defer a.mu.Unlock()
	difference := map[string]uint64{}
	for i, explained := range a.explained {
		name := events.Counter(i).String()
		moved := now[name] - a.base[name]
		difference[name] = moved - min(moved, explained)
	}
	a.difference = difference
}

// unexplained returns the last comparison: nil before the first.
func (a *audit) unexplained() map[string]uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.difference
}

// wait waits, and reports whether ctx has not ended.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
