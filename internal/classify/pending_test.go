package classify

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// pending finds at any moment what a search through a plain list does, where many sockets have the same address.
func TestPendingAgainstList(t *testing.T) {
	p, random := newPending(400), rand.New(rand.NewPCG(1, 2))
	var list []*waiting // in order of arrival
	kinds := []events.Kind{events.KindClose, events.KindDone, events.KindReset}
	take := func(match func(*waiting) bool) (taken []*waiting) {
		list = slices.DeleteFunc(list, func(w *waiting) bool {
			if match(w) {
				taken = append(taken, w)
				return true
			}
			return false
		})
		return taken
	}
	for step := range 20_000 {
		remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 9}), 443)
		local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 5}), uint16(random.IntN(20)))
		ev := events.Event{
			Kind: kinds[random.IntN(len(kinds))], Sock: uint64(random.IntN(3)), Local: local, Remote: remote,
			MonoNS: uint64(step),
		}
		var got, want []*waiting
		switch what := random.IntN(100); {
		case what < 80 && len(list) < p.limit:
			w := p.add(&ev, uint64(step+random.IntN(1000)))
			if random.IntN(2) == 0 {
				p.remind(w, w.last-uint64(random.IntN(int(w.last)-step+1)))
			}
			list = append(list, w)
		case what < 90:
			want = append(want, nil)
			if at := slices.IndexFunc(list, func(w *waiting) bool {
				return w.event.Kind == ev.Kind && sameSocket(&w.event, &ev)
			}); at >= 0 {
				want[0] = list[at]
			}
			got = append(got, p.find(&ev, ev.Kind))
		case what < 92:
			want = take(func(w *waiting) bool { return w.event.Sock == ev.Sock && sameEnd(&w.event, &ev) })
			for _, w := range want {
				p.remove(w)
			}
			got = want
		case what < 94:
			want = take(func(w *waiting) bool { return w.event.Sock == ev.Sock })
			got = p.takeSocket(&ev)
		case what < 97:
			isEven := func(w *waiting) bool { return w.arrival%2 == 0 }
			want = take(func(w *waiting) bool {
				return w.event.Kind == events.KindClose && sameEnd(&w.event, &ev) && !isEven(w)
			})
			got = p.takeCloses(&ev, isEven)
		default:
			early := take(func(w *waiting) bool { return w.deadline < uint64(step) && w.last >= uint64(step) })
			want = take(func(w *waiting) bool { return w.last < uint64(step) })
			list = append(list, early...)
			slices.SortFunc(list, byArrival)
			reminded := 0
			got = p.takeDue(uint64(step), func(*events.Event) { reminded++ })
			if reminded != len(early) {
				t.Fatalf("step %d: reminded of %d events, want %d", step, reminded, len(early))
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("step %d: got %d events, want %d", step, len(got), len(want))
		}
	}
	if got := p.takeAll(); !slices.Equal(got, list) || !p.empty() {
		t.Errorf("got %d of %d at the end", len(got), len(list))
	}
}
