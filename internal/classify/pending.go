package classify

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// pending is events that wait for a second one, each until its deadline. In
// tracepoint mode some thousand closes wait at a time, so that events are found
// by their socket and by their deadline.
type pending struct {
	limit     int
	chains    []*waiting // by hash of the address of the socket, each in order of arrival
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

// waiting is an event that waits.
type waiting struct {
	event    events.Event
	deadline uint64   // event clock
	arrival  uint64   // arrival number
	index    int      // in deadlines
	behind   bool     // waits until the end of its socket, which is pending too, is concluded
	next     *waiting // in the chain
}

func newPending(limit int) pending {
	return pending{limit: limit, chains: make([]*waiting, 1<<chainBits)}
}

// chain returns where the chain of a socket begins. Fibonacci hashing spreads
// addresses at regular distances, as those of sockets are.
func (p *pending) chain(sock uint64) **waiting {
	return &p.chains[sock*0x9e3779b97f4a7c15>>(64-chainBits)]
}

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
	w.event, w.deadline, w.arrival, w.behind, w.next = *ev, deadline, p.arrivals, false, nil
	heap.Push(&p.deadlines, w)
	link := p.chain(ev.Sock)
	for *link != nil {
		link = &(*link).next
	}
	*link = w
	return w
}

// remove takes an event out. It stays readable until the next add.
func (p *pending) remove(w *waiting) {
	heap.Remove(&p.deadlines, w.index)
	link := p.chain(w.event.Sock)
	for *link != w {
		link = &(*link).next
	}
	*link = w.next
	p.free = append(p.free, w)
}

// postpone sets another deadline.
func (p *pending) postpone(w *waiting, deadline uint64) {
	w.deadline = deadline
	heap.Fix(&p.deadlines, w.index)
}

// find returns the first event of a kind for the socket of an event, or nil.
func (p *pending) find(ev *events.Event, kind events.Kind) *waiting {
	for w := *p.chain(ev.Sock); w != nil; w = w.next {
		if w.event.Kind == kind && sameSocket(&w.event, ev) {
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
// order of arrival. Like those of takeSocket and takeAll, the result is valid
// until the next call that adds or takes.
func (p *pending) takeDue(monoNS uint64) []*waiting {
	p.taken = p.taken[:0]
	for p.isDue(monoNS) {
		p.taken = append(p.taken, p.takeSoonest())
	}
	slices.SortFunc(p.taken, byArrival)
	return p.taken
}

// takeSocket removes and returns the events at the address of a socket, in order
// of arrival.
func (p *pending) takeSocket(sock uint64) []*waiting {
	if p.empty() {
		return nil
	}
	p.taken = p.taken[:0]
	for w := *p.chain(sock); w != nil; w = w.next {
		if w.event.Sock == sock {
			p.remove(w) // and w.next stays what it was
			p.taken = append(p.taken, w)
		}
	}
	return p.taken
}

// takeAll removes and returns the events that match, in order of arrival.
func (p *pending) takeAll(match func(*waiting) bool) []*waiting {
	p.taken = p.taken[:0]
	for _, w := range p.deadlines {
		if match(w) {
			p.taken = append(p.taken, w)
		}
	}
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
