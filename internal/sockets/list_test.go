package sockets

import (
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

func TestList(t *testing.T) {
	all := []Socket{
		{}, // a listener that a test made has no address of a peer
		{
			Netns: 1, Local: here, Remote: there, State: events.CloseWait, Inode: 1 << 40, UID: 3, ReceiveQueue: 4, SendQueue: 5,
			NotSent: 6, LastHeard: 7 * time.Nanosecond, InState: 8 * time.Nanosecond, RTO: 9 * time.Microsecond, Backoff: 10,
			Retries: 11, WindowClosed: true,
		},
		{Local: netip.MustParseAddrPort("[2001:db8::1]:1"), Remote: netip.MustParseAddrPort("[::]:0"), State: events.Listen},
		{Local: here, Remote: there, State: events.FinWait2, Mini: true, TimeLeft: 59_999 * time.Millisecond},
	}
	l := NewList(all...)
	for range 2 * chunk {
		l.Add(&all[1])
	}
	if l.Len() != len(all)+2*chunk {
		t.Fatalf("%d sockets", l.Len())
	}
	for i, got := range l.All() {
		if want := all[min(i, len(all)-1)]; i < len(all) && got != want || i >= len(all) && got != all[1] {
			t.Fatalf("%d: got %+v, want %+v", i, got, want)
		}
	}
	for _, n := range []int{2*chunk + 1, 2 * chunk, chunk + 1, chunk, 3, 1, 0} {
		l.cut(n)
		l.Add(&all[3])
		if got := l.At(n); l.Len() != n+1 || got != all[3] {
			t.Fatalf("cut to %d: %d, the last is %+v", n, l.Len(), got)
		}
		l.cut(n)
	}
}

func TestCompareEnds(t *testing.T) {
	ends := []string{"1.2.3.4:80", "1.2.3.4:81", "1.2.3.5:1", "[::1]:1", "[fe80::1]:1"}
	var all []Socket
	for _, local := range ends {
		for _, remote := range ends {
			all = append(all, Socket{Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote)})
		}
	}
	l := NewList(all...)
	for i, a := range all {
		for j, b := range all {
			want := a.Local.Compare(b.Local)
			if want == 0 {
				want = a.Remote.Compare(b.Remote)
			}
			if got := l.CompareEnds(i, j); got != want {
				t.Errorf("%v > %v and %v > %v: %d, want %d", a.Local, a.Remote, b.Local, b.Remote, got, want)
			}
		}
	}
}

// A source that shows a socket twice adds it once.
func TestAddOnce(t *testing.T) {
	one := Socket{Netns: 1, Local: here, Remote: there, Inode: 5}
	all := []Socket{one, one, one, one, one, one}
	all[1].Netns, all[2].Inode, all[3].Local, all[4].Remote = 2, 6, there, here
	l, seen := &List{}, NewSeen()
	for _, s := range all {
		l.AddOnce(&s, seen)
	}
	if l.Len() != 5 {
		t.Errorf("%d sockets of %d", l.Len(), len(all))
	}
}

// A list takes about 100 bytes of each socket, and 16 of each descriptor.
func TestMemory(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const n = 50_000
	before := heap()
	l, h := &List{}, &Holders{}
	holder := h.Add(Holder{PID: 1})
	for i := range n {
		l.Add(&Socket{Local: here, Remote: there, Inode: uint64(i)})
		h.Hold(holder, uint64(i), i)
	}
	per := (heap() - before) / n
	if per < 50 || per > 150 {
		t.Errorf("%d bytes per socket", per)
	}
	runtime.KeepAlive(l)
	runtime.KeepAlive(h)
}

func TestHolders(t *testing.T) {
	h := &Holders{}
	server, thread := h.Add(Holder{PID: 30, Comm: "server"}), h.Add(Holder{PID: 30, TID: 31, Comm: "thread"})
	other := h.Add(Holder{PID: 4, Comm: "other"})
	for _, d := range []held{{7, uint32(thread), 5}, {7, uint32(server), 9}, {7, uint32(server), 3}, {8, uint32(other), 4},
		{7, uint32(server), 9}, {7, uint32(other), 6}, {9, uint32(server), 1}} {
		h.Hold(int(d.holder), d.inode, int(d.fd))
	}
	want := map[uint64][]Holder{
		7: {{PID: 4, Comm: "other", FDs: []int{6}}, {PID: 30, Comm: "server", FDs: []int{3, 9}},
			{PID: 30, TID: 31, Comm: "thread", FDs: []int{5}}},
		8: {{PID: 4, Comm: "other", FDs: []int{4}}},
		9: {{PID: 30, Comm: "server", FDs: []int{1}}},
	}
	for inode := range uint64(12) {
		if got := h.Of(inode); !reflect.DeepEqual(got, want[inode]) {
			t.Errorf("of %d: %+v, want %+v", inode, got, want[inode])
		}
		if got := HoldersOf(want).Of(inode); !reflect.DeepEqual(got, want[inode]) {
			t.Errorf("of %d, once more: %+v, want %+v", inode, got, want[inode])
		}
	}
	if none := (*Holders)(nil).Of(7); none != nil {
		t.Errorf("of nothing: %+v", none)
	}
}

func TestInodes(t *testing.T) {
	s := NewInodes([]uint64{9, 3, 9, 1 << 63})
	var has []uint64
	for _, inode := range []uint64{0, 3, 4, 9, 1 << 63} {
		if s.Has(inode) {
			has = append(has, inode)
		}
	}
	if !slices.Equal(has, []uint64{3, 9, 1 << 63}) || s.Len() != 3 {
		t.Errorf("%v, %d", has, s.Len())
	}
}
