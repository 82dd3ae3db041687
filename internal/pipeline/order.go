package pipeline

import (
	"slices"
	"sort"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

const (
	// orderHold is how long an ending is held, by its time, for endings that happened before it and are concluded after
	// it. The kernel side is polled every 50 ms, so that a line still comes within 100 ms.
	orderHold = 25 * time.Millisecond
	// maxHeld bounds the endings that are held: about 3 MB. If more would be, the oldest is passed on.
	maxHeld = 4096
)

// order passes on endings in the order in which they happened, as far as they are concluded within orderHold. What is
// passed on depends only on what is added and released, so that a replay has the same order.
type order struct {
	held []*events.Ending // by time; of the same time, by arrival
	next int              // the first one of held that was not passed on
	free []*events.Ending // for reuse
}

// empty reports whether none is held.
func (o *order) empty() bool { return o.next == len(o.held) }

// spare returns an ending that is not held.
func (o *order) spare() *events.Ending {
	n := len(o.free)
	if n == 0 {
		return new(events.Ending)
	}
	e := o.free[n-1]
	o.free = o.free[:n-1]
	return e
}

// add holds an ending. If that is one too many, the oldest is passed on.
func (o *order) add(e *events.Ending, pass func(*events.Ending)) {
	if len(o.held)-o.next == maxHeld {
		o.first(pass)
	}
	if o.next > maxHeld { // as many as can be held were passed on: use their room
		o.held, o.next = o.held[:copy(o.held, o.held[o.next:])], 0
	}
	at := len(o.held)
	if at > o.next && o.held[at-1].MonoNS > e.MonoNS {
		at = o.next + sort.Search(at-o.next, func(i int) bool { return o.held[o.next+i].MonoNS > e.MonoNS })
	}
	o.held = slices.Insert(o.held, at, e)
}

// release passes on what has been held for long enough at a time of the event clock, and reports whether that was any.
func (o *order) release(monoNS uint64, pass func(*events.Ending)) bool {
	before := o.next
	for o.next < len(o.held) && o.held[o.next].MonoNS+uint64(orderHold) <= monoNS {
		o.first(pass)
	}
	return o.next > before
}

// releaseAll passes on all.
func (o *order) releaseAll(pass func(*events.Ending)) {
	for o.next < len(o.held) {
		o.first(pass)
	}
	o.held, o.next = o.held[:0], 0
}

// first passes on the oldest.
func (o *order) first(pass func(*events.Ending)) {
	e := o.held[o.next]
	o.next++
	pass(e)
	o.free = append(o.free, e)
}
