package classify

import (
	"cmp"
	"container/heap"
	"iter"
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// held is an event whose verdict waits until a point of the event clock.
type held struct {
	event   events.Event
	until   uint64
	arrived uint64 // the how many-th it is
	place   int    // in soonest
	next    *held  // in its chain
}

// waiting is all that is held. Tracepoint mode holds each close that sent a FIN, some thousand at a time, so that what
// is due and what belongs to a socket is found without looking at the others.
type waiting struct {
	soonest soonest
	chains  []*held // by hash of the socket's address, each in order of arrival
	arrived uint64
	free    []*held // to be used again
	chosen  []*held // by whoever releases
}

// chainBits make half as many chains as may be held.
const chainBits = 12

func newWaiting() waiting { return waiting{chains: make([]*held, 1<<chainBits)} }

// chain is where that of a socket begins. Fibonacci's hash spreads what is at regular distances, as sockets are.
func (w *waiting) chain(sock uint64) **held {
	return &w.chains[sock*0x9e3779b97f4a7c15>>(64-chainBits)]
}

// of yields what is held of a socket, in order of arrival. What it yields may be dropped.
func (w *waiting) of(sock uint64) iter.Seq[*held] {
	return func(yield func(*held) bool) {
		for h := *w.chain(sock); h != nil; {
			next := h.next
			if h.event.Sock == sock && !yield(h) {
				return
			}
			h = next
		}
	}
}

func (w *waiting) len() int { return len(w.soonest) }

// add keeps a copy of an event.
func (w *waiting) add(ev *events.Event, until uint64) {
	var h *held
	if n := len(w.free); n > 0 {
		h, w.free = w.free[n-1], w.free[:n-1]
	} else {
		h = new(held)
	}
	w.arrived++
	h.event, h.until, h.arrived = *ev, until, w.arrived
	heap.Push(&w.soonest, h)
	end := w.chain(ev.Sock)
	for *end != nil {
		end = &(*end).next
	}
	*end = h
}

// drop forgets what is held; its event stays readable until the next add.
func (w *waiting) drop(h *held) {
	heap.Remove(&w.soonest, h.place)
	link := w.chain(h.event.Sock)
	for *link != h {
		link = &(*link).next
	}
	*link, h.next = h.next, nil
	w.free = append(w.free, h)
}

// wait changes until when something waits.
func (w *waiting) wait(h *held, until uint64) {
	h.until = until
	heap.Fix(&w.soonest, h.place)
}

// oldest is the first to have come.
func (w *waiting) oldest() *held {
	return slices.MinFunc(w.soonest, byArrival)
}

// due drops and returns what waited until before a time, in order of arrival. It is valid until the next add.
func (w *waiting) due(monoNS uint64) []*held {
	if w.len() == 0 || w.soonest[0].until >= monoNS {
		return nil
	}
	w.chosen = w.chosen[:0]
	for w.len() > 0 && w.soonest[0].until < monoNS {
		h := w.soonest[0]
		w.drop(h)
		w.chosen = append(w.chosen, h)
	}
	slices.SortFunc(w.chosen, byArrival)
	return w.chosen
}

// ofSocket and all drop and return likewise what fits.
func (w *waiting) ofSocket(sock uint64) []*held {
	if w.len() == 0 {
		return nil
	}
	w.chosen = w.chosen[:0]
	for h := range w.of(sock) {
		w.drop(h)
		w.chosen = append(w.chosen, h)
	}
	return w.chosen
}

func (w *waiting) all(fits func(*held) bool) []*held {
	w.chosen = w.chosen[:0]
	for _, h := range w.soonest {
		if fits(h) {
			w.chosen = append(w.chosen, h)
		}
	}
	slices.SortFunc(w.chosen, byArrival)
	return w.take(w.chosen)
}

func (w *waiting) take(chosen []*held) []*held {
	w.chosen = chosen
	for _, h := range chosen {
		w.drop(h)
	}
	return chosen
}

func byArrival(a, b *held) int { return cmp.Compare(a.arrived, b.arrived) }

// soonest is a heap, by the time until which they wait.
type soonest []*held

func (s soonest) Len() int           { return len(s) }
func (s soonest) Less(i, j int) bool { return s[i].until < s[j].until }

func (s soonest) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = i, j
}

func (s *soonest) Push(x any) {
	h := x.(*held)
	h.place = len(*s)
	*s = append(*s, h)
}

func (s *soonest) Pop() any {
	last := len(*s) - 1
	h := (*s)[last]
	*s = (*s)[:last]
	return h
}
