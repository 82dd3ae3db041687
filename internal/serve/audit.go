package serve

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/live"
	"github.com/closetrace/closetrace/internal/sink"
)

// auditEvery is how often the kernel's counters are compared with the endings. settle is the time after which an
// ending has been concluded.
const (
	auditEvery = 15 * time.Second
	settle     = 5 * time.Second
	// maxSpaces is the number of network namespaces that are compared. A node of Kubernetes has 110 pods.
	maxSpaces = 128
)

// audit compares, every now and then, the kernel's counters of network namespaces with the endings in them.
//
// The counters are read at a moment, and compared once the endings until that moment are concluded. In doubt, an ending
// counts as explaining: what the comparison shows was not explained.
type audit struct {
	read func() map[uint32]sink.Counters // by network namespace
	now  func() uint64                   // CLOCK_MONOTONIC

	mu         sync.Mutex
	begun      uint64 // moment from which on endings count
	moment     uint64 // of the last reading
	spaces     map[uint32]*space
	difference map[string]uint64
}

// space is a network namespace that is compared.
type space struct {
	base      sink.Counters // when the comparison began; nil: not read yet
	last      sink.Counters // at the moment
	explained events.Moved  // by endings until the moment
	after     events.Moved  // by later ones
}

// newAudit returns an audit of the network namespaces that a trace compares at its end.
func newAudit(system *live.System, o live.CounterOptions) *audit {
	return &audit{
		read: func() map[uint32]sink.Counters { return countersOf(system, o) }, now: kernel.MonoNow,
		spaces: map[uint32]*space{},
	}
}

// countersOf reads the counters, those of the namespace that is always compared last.
func countersOf(system *live.System, o live.CounterOptions) map[uint32]sink.Counters {
	all := map[uint32]sink.Counters{}
	if o.Skip != "" {
		return all
	}
	if o.Others && system.ReadOthers != nil {
		for inode, counters := range system.ReadOthers(o.Netns, maxSpaces).Counters {
			if len(o.Those) == 0 || slices.Contains(o.Those, inode) {
				all[inode] = counters
			}
		}
	}
	if own, err := system.ReadCounters(o.Path, o.Netns); err == nil {
		all[o.Netns] = own
	}
	return all
}

// begin reads the counters from which on they are compared. Endings before that do not count.
func (a *audit) begin() {
	a.begun = a.now()
	a.take()
}

// Observe counts what an ending explains.
func (a *audit) Observe(e *events.Ending, _ bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.spaces[e.Netns]
	switch {
	case e.MonoNS < a.begun:
		return
	case s == nil && len(a.spaces) > maxSpaces:
		return
	case s == nil:
		s = &space{}
		a.spaces[e.Netns] = s
	}
	if e.MonoNS <= a.moment {
		s.explained.Add(e)
	} else {
		s.after.Add(e)
	}
}

// run compares until ctx ends.
func (a *audit) run(ctx context.Context) {
	for wait(ctx, auditEvery) {
		if a.take(); wait(ctx, settle) {
			a.compare()
		}
	}
}

// take reads the counters. Endings until now are those that they are compared with. A namespace that is new is compared
// from now on, one that is gone no more.
func (a *audit) take() {
	a.forgetUnread()
	read := a.read()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.moment = a.now()
	for inode := range a.spaces {
		if read[inode] == nil {
			delete(a.spaces, inode)
		}
	}
	for inode, counters := range read {
		s := a.spaces[inode]
		if s == nil {
			s = &space{}
		}
		if s.base == nil || counters.WentBack(s.last) {
			// Endings that were concluded while the counters were read may have moved them after that.
			a.spaces[inode] = &space{base: counters, last: counters, explained: s.after}
			continue
		}
		s.last = counters
		for i := range s.after {
			s.explained[i] += s.after[i]
		}
		s.after = events.Moved{}
	}
}

// forgetUnread forgets the endings of namespaces whose counters were never read: the first reading includes them.
func (a *audit) forgetUnread() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.spaces {
		if s.base == nil {
			s.after = events.Moved{}
		}
	}
}

// compare sets by how much the counters have moved beyond what the endings explain, in all namespaces.
func (a *audit) compare() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.difference = nil
	for _, s := range a.spaces {
		if s.base == nil {
			continue
		}
		if a.difference == nil {
			a.difference = map[string]uint64{}
		}
		moved := s.last.Since(s.base)
		for i := range events.Counters {
			n := moved[i.String()]
			a.difference[i.String()] += n - min(n, s.explained[i])
		}
	}
}

// unexplained returns the last comparison, without the RST replies that the rate limit left out. It is nil before the
// first, and if nothing can be compared.
func (a *audit) unexplained(suppressed uint64) map[string]uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := maps.Clone(a.difference)
	if all != nil {
		all[events.OutRsts.String()] -= min(all[events.OutRsts.String()], suppressed)
	}
	return all
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
