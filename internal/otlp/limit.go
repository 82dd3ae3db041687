package otlp

import (
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

const (
	// window is how long endings over the rate are collapsed until their records are sent.
	window = 10 * time.Second
	// maxGroups bounds the records of a window.
	maxGroups = 256
)

// groupKey is what endings that share a record have in common.
type groupKey struct {
	path         events.Path
	process      string
	cgroup       string
	netns        uint32
	kernelReason string
	port         uint16 // of the service, if the kernel said which end that is
}

// limiter lets through a number of endings a second, each with its own record. Of the others, those that are alike
// share the record of the first of them, once in a window. Not for concurrent use.
type limiter struct {
	rate   float64 // endings a second
	tokens float64
	last   time.Time // when tokens was right
	groups map[groupKey]*queued
	began  time.Time // when the first ending of the window was collapsed
}

func newLimiter(rate int) *limiter {
	return &limiter{rate: float64(rate), tokens: float64(rate), groups: map[groupKey]*queued{}}
}

// allow reports whether an ending has its own record.
func (l *limiter) allow(now time.Time) bool {
	l.tokens = min(l.rate, l.tokens+l.rate*now.Sub(l.last).Seconds())
	l.last = now
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}

// collapse adds an ending to the record of those like it. It returns a new record, which the caller fills; nil if there
// was one. ok is false if there is no room for another one.
func (l *limiter) collapse(e *events.Ending, now time.Time) (first *queued, ok bool) {
	key := groupKeyOf(e)
	if q := l.groups[key]; q != nil {
		q.more++
		return nil, true
	}
	if len(l.groups) == maxGroups {
		return nil, false
	}
	if len(l.groups) == 0 {
		l.began = now
	}
	first = new(queued)
	l.groups[key] = first
	return first, true
}

// due returns the records of a window that is over, or of each if all are wanted.
func (l *limiter) due(now time.Time, all bool) map[groupKey]*queued {
	if len(l.groups) == 0 || !all && now.Sub(l.began) < window {
		return nil
	}
	groups := l.groups
	l.groups = map[groupKey]*queued{}
	return groups
}

func groupKeyOf(e *events.Ending) groupKey {
	key := groupKey{path: e.Path, cgroup: e.Cgroup, netns: e.Netns, kernelReason: e.KernelReason}
	if task := e.Actor; task != nil {
		key.process = task.Name()
	} else if task := e.Owner; task != nil {
		key.process = task.Name()
	}
	switch e.Service {
	case events.EndLocal:
		key.port = e.Local.Port()
	case events.EndRemote:
		key.port = e.Remote.Port()
	}
	return key
}
