package pipeline

import (
	"github.com/closetrace/closetrace/internal/events"
)

// Resolver completes an event, in place, by what the kernel side does not report.
type Resolver func(*events.Event)

// Resolvers complete the events of a source.
type Resolvers struct {
	// Owner finds the process that holds the socket. It may search /proc; nil looks up no owner.
	Owner Resolver
	// Others find the names of cgroups and, where asked for, the functions of a stack and the names of containers.
	Others []Resolver
	// NameStack begins to name the functions of an event's stack, beside the stream. It returns nil if there is nothing
	// to name. A nil NameStack names none.
	NameStack func(*events.Event) Naming
}

// Naming is the work of naming the functions of a stack.
type Naming interface {
	Done() <-chan struct{}
	// Finish sets what was named until now.
	Finish()
}

// split returns the resolvers of every event, and the one that the classifier calls for an event that it reports.
//
// An owner is looked up only once an event is concluded without one: most received FINs are not reported, and the next
// call on a socket names most owners. Who else holds a socket of which one descriptor was closed is looked up at once.
// A recording gets these owners as well, so that a replay reports the same. Without a classifier (recordOnly) it is not
// known which FINs are reported, and none is looked up for them.
func (r Resolvers) split(to Recorder, recordOnly bool) (every []Resolver, onReport Resolver) {
	every = append(every, r.Others...)
	switch {
	case r.Owner == nil:
		return every, nil
	case recordOnly:
		return append(every, func(ev *events.Event) {
			if ev.Kind != events.KindPeerFIN {
				r.Owner(ev)
			}
		}), nil
	}
	late, ok := to.(OwnerRecorder)
	if to != nil && !ok {
		return append(every, r.Owner), nil
	}
	return append(every, func(ev *events.Event) {
		if ev.Kind == events.KindShared {
			r.Owner(ev)
		}
	}), r.recordedBy(late)
}

// recordedBy returns the resolver of owners. What it finds is recorded; nil: nowhere.
func (r Resolvers) recordedBy(to OwnerRecorder) Resolver {
	if to == nil {
		return r.Owner
	}
	return func(ev *events.Event) {
		if r.Owner(ev); ev.Owner != nil {
			to.Owner(ev)
		}
	}
}
