package classify

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// pending is events that wait for a second one, each until its deadline. In
// tracepoint mode some thousand closes wait at a time, and sockets that follow each
// other have the same address, so that events are found by the address of their
// socket, by the socket, by their end of the connection and by their deadline.
type pending struct {
	limit     int
	chains    [keys][]chain // by hash of the key, each in order of arrival
	deadlines deadlines
	arrivals  uint64
	free      []*waiting // for reuse
	taken     []*waiting // result of the methods that take, for reuse
}

// turns is how many values [waiting.turn] has.
const turns = 3

// turn returns in which order events are concluded that are released together.
func (w *waiting) turn() int {
	switch {
	case w.behind:
		return 2
	case w.event.Kind == events.KindDone:
		return 1
	}
	return 0
}

// chainBits gives half as many chains as events may wait.
const chainBits = 12

// The keys by which events are found.
const (
	byAddress = iota // of the socket, which sockets one after the other have
	bySocket
	byEnd // of the connection, by its ports
	keys
)

// chain is the events whose keys have a hash.
type chain struct{ first, last *waiting }

// waiting is an event that waits.
type waiting struct {
	event      events.Event
	deadline   uint64         // event clock
	last       uint64         // the deadline, or a later one: until then, there is only something to do
	arrival    uint64         // arrival number
	index      int            // in deadlines
	behind     bool           // waits until the end of its socket, which is pending too, is concluded
	next, prev [keys]*waiting // in the chains
}

func newPending(limit int) pending {
	p := pending{limit: limit}
	for key := range p.chains {
		p.chains[key] = make([]chain, 1<<chainBits)
	}
	return p
}

// chain returns the chain of an event by a key. Fibonacci hashing spreads addresses
// at regular distances, as those of sockets are.
func (p *pending) chain(key int, ev *events.Event) *chain {
	number := ev.Sock
	switch key {
	case bySocket:
		number ^= uint64(ev.Local.Port()) << 48
	case byEnd:
		number = uint64(ev.Local.Port())<<16 | uint64(ev.Remote.Port())
	}
	return &p.chains[key][number*0x9e3779b97f4a7c15>>(64-chainBits)]
}

// first returns the first event of the chain of an event by a key.
func (p *pending) first(key int, ev *events.Event) *waiting { return p.chain(key, ev).first }

func (p *pending) full() bool { return len(p.deadlines) == p.limit }

func (p *pending) empty() bool { return len(p.deadlines) == 0 }

// add keeps a copy of an event.
func (p *pending) add(ev *events.Event, deadline uint64) *waiting {
	var w *waiting
	if n := len(p.free); n > 0 {
		w, p.free = p.free[n-1], p.free[:n-1]
	} else {
		w = new(waiting)
	}
	p.arrivals++
	w.event, w.deadline, w.last, w.arrival, w.behind = *ev, deadline, deadline, p.arrivals, false
	heap.Push(&p.deadlines, w)
	for key := range keys {
		c := p.chain(key, ev)
		w.next[key], w.prev[key] = nil, c.last
		if c.last == nil {
			c.first = w
		} else {
			c.last.next[key] = w
		}
		c.last = w
	}
	return w
}

// remove takes an event out. It stays readable until the next add, with what it is
// followed by.
func (p *pending) remove(w *waiting) {
	heap.Remove(&p.deadlines, w.index)
	for key := range keys {
		c, next, prev := p.chain(key, &w.event), w.next[key], w.prev[key]
		if prev == nil {
			c.first = next
		} else {
			prev.next[key] = next
		}
		if next == nil {
			c.last = prev
		} else {
			next.prev[key] = prev
		}
	}
	p.free = append(p.free, w)
}

// postpone sets another deadline.
func (p *pending) postpone(w *waiting, deadline uint64) {
	w.deadline, w.last = deadline, deadline
	heap.Fix(&p.deadlines, w.index)
}

// remind sets a time before the deadline, at which takeDue lets something be done.
func (p *pending) remind(w *waiting, monoNS uint64) {
	w.deadline = monoNS
	heap.Fix(&p.deadlines, w.index)
}

// find returns the first event of a kind for the socket and the connection of an event, or nil. The sockets of a
// service follow each other at one address within microseconds, with one local port.
func (p *pending) find(ev *events.Event, kind events.Kind) *waiting {
	for w := p.first(bySocket, ev); w != nil; w = w.next[bySocket] {
		if w.event.Kind == kind && sameSocket(&w.event, ev) && mayBeOneConnection(&w.event, ev) {
			return w
		}
	}
	return nil
}

// takeSoonest removes and returns the event whose deadline is the next.
func (p *pending) takeSoonest() *waiting {
	w := p.deadlines[0]
	p.remove(w)
	return w
}

// isDue reports whether the deadline of an event was before a time.
func (p *pending) isDue(monoNS uint64) bool {
	return !p.empty() && p.deadlines[0].deadline < monoNS
}

// takeDue removes and returns the events whose deadline was before a time, in
// order of arrival. It calls early, which may change no key, with those of which
// only the reminder was. Like those of takeSocket and takeAll, the result is valid
// until the next call that adds or takes.
func (p *pending) takeDue(monoNS uint64, early func(*events.Event)) []*waiting {
	p.taken = p.taken[:0]
	for p.isDue(monoNS) {
		if w := p.deadlines[0]; w.last >= monoNS {
			early(&w.event)
			p.postpone(w, w.last)
			continue
		}
		p.taken = append(p.taken, p.takeSoonest())
	}
	slices.SortFunc(p.taken, byArrival)
	return p.taken
}

// takeSocket removes and returns the events at the address of an event's socket, in
// order of arrival.
func (p *pending) takeSocket(ev *events.Event) []*waiting {
	return p.takeMatching(byAddress, ev, func(w *waiting) bool { return w.event.Sock == ev.Sock })
}

// takeReplaced removes and returns the events of sockets that had the address of an event's socket before it, in order
// of arrival.
func (p *pending) takeReplaced(ev *events.Event) []*waiting {
	return p.takeMatching(byAddress, ev, func(w *waiting) bool {
		return ev.Sock != 0 && w.event.Sock == ev.Sock &&
			!(sameSocket(&w.event, ev) && mayBeOneConnection(&w.event, ev))
	})
}

// takeCloses removes and returns the closes of an event's end of the connection, in
// order of arrival. Those behind the end of their socket, and those to keep, stay.
func (p *pending) takeCloses(ev *events.Event, keep func(*waiting) bool) []*waiting {
	return p.takeMatching(byEnd, ev, func(w *waiting) bool {
		return w.event.Kind == events.KindClose && !w.behind && sameEnd(&w.event, ev) && !keep(w)
	})
}

// takeMatching removes and returns the events that match, of the chain of an event.
func (p *pending) takeMatching(key int, ev *events.Event, match func(*waiting) bool) []*waiting {
	p.taken = p.taken[:0]
	if p.empty() {
		return p.taken
	}
	for w := p.first(key, ev); w != nil; w = w.next[key] {
		if match(w) {
			p.remove(w)
			p.taken = append(p.taken, w)
		}
	}
	return p.taken
}

// takeAll removes and returns all events, in order of arrival.
func (p *pending) takeAll() []*waiting {
	p.taken = append(p.taken[:0], p.deadlines...)
	for _, w := range p.taken {
		p.remove(w)
	}
	slices.SortFunc(p.taken, byArrival)
	return p.taken
}

func byArrival(a, b *waiting) int { return cmp.Compare(a.arrival, b.arrival) }

// deadlines is a heap of events.
type deadlines []*waiting

func (d deadlines) Len() int { return len(d) }

func (d deadlines) Less(i, j int) bool {
	if d[i].deadline != d[j].deadline {
		return d[i].deadline < d[j].deadline
	}
	return d[i].arrival < d[j].arrival
}

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

func (d *deadlines) Push(x any) {
	w := x.(*waiting)
	w.index = len(*d)
	*d = append(*d, w)
}

func (d *deadlines) Pop() any {
	last := len(*d) - 1
	w := (*d)[last]
	*d = (*d)[:last]
	return w
}
