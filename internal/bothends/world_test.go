package bothends

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
)

// world makes connections between hosts, as their closetraces record them. Each connection has a number, which its
// events have as the bytes that were sent: nothing that is joined looks at these.
type world struct {
	*rand.Rand
	hosts []*simulated
	now   int64          // true time, nanoseconds
	ends  map[uint64]int // how many ends of a connection were recorded
	plain bool           // recordings do not say which end connected, so that connections have no id
	blind bool           // the headers of a RST received are not seen (tracepoint mode)
}

// simulated is a host of a world.
type simulated struct {
	addr, nat netip.Addr
	mono      int64 // added to true time gives its CLOCK_MONOTONIC
	header    events.Header
	events    []events.Event
}

const hosts = 4

func newWorld(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 7)), ends: map[uint64]int{}, now: 1795893703e9}
	for i := range hosts {
		h := &simulated{
			addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), nat: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}),
			mono: w.Int64N(1e15) - w.now,
		}
		wrong := w.Int64N(int64(2*time.Hour)) - int64(time.Hour)
		h.header = events.Header{
			Host: "host", BootID: string(rune('a' + i)), HZ: 250, WallOffsetNS: -h.mono + wrong, Attach: "fentry",
		}
		w.hosts = append(w.hosts, h)
	}
	return w
}

// side is one end of a connection while it is made.
type side struct {
	host          *simulated
	local, remote netip.AddrPort
	isn, peerISN  uint32
	sent, got     uint32
	flags         events.Flags
	isRecorded    bool
}

// event records an event of an end, some time from now.
func (w *world) event(s *side, number uint64, after time.Duration, ev events.Event) {
	ev.MonoNS = uint64(w.now + int64(after) + s.host.mono)
	ev.Local, ev.Remote, ev.Netns, ev.Sock = s.local, s.remote, 7, number<<1|uint64(s.flags>>25&1)
	ev.Flags |= s.flags
	ev.BytesSent, ev.BytesReceived = number, uint64(s.got)
	if ev.Kind == events.KindReply {
		ev.BytesReceived = 0
	} else {
		// The end that connected counts its SYN.
		ev.FirstSent, ev.SndNxt = s.isn+1, s.isn+1+s.sent
		if s.flags.Has(events.Connected) {
			ev.FirstSent--
		}
		ev.FirstReceived = s.peerISN + 1
	}
	if w.plain {
		ev.Flags &^= events.Accepted | events.Connected
	}
	if w.blind && ev.Kind == events.KindDone {
		ev.SegmentSeq, ev.SegmentAck = 0, 0
	}
	if s.isRecorded {
		s.host.events = append(s.host.events, ev)
	}
}

// connection makes one connection, whose ports were used before and will be used again.
func (w *world) connection(number uint64) {
	w.now += w.Int64N(int64(2 * time.Millisecond))
	from, to := w.IntN(hosts), w.IntN(hosts-1)
	if to >= from {
		to++
	}
	a := &side{host: w.hosts[from], isn: w.Uint32(), flags: events.Connected}
	b := &side{host: w.hosts[to], peerISN: a.isn, isn: w.Uint32(), flags: events.Accepted}
	a.peerISN = b.isn
	a.sent, a.got = 1+w.Uint32N(5000), w.Uint32N(5000)
	b.sent, b.got = a.got, a.sent
	a.local = netip.AddrPortFrom(a.host.addr, uint16(40000+w.IntN(50)))
	b.local = netip.AddrPortFrom(b.host.addr, uint16(8000+w.IntN(3)))
	a.remote, b.remote = b.local, a.local
	switch w.IntN(4) {
	case 0: // masquerading, with another port
		b.remote = netip.AddrPortFrom(a.host.nat, uint16(50000+w.IntN(50)))
	case 1: // a service address
		a.remote = netip.AddrPortFrom(b.host.nat, 80)
	case 2: // both
		b.remote = netip.AddrPortFrom(a.host.nat, uint16(50000+w.IntN(50)))
		a.remote = netip.AddrPortFrom(b.host.nat, 80)
	}
	a.isRecorded, b.isRecorded = w.IntN(20) > 0, w.IntN(20) > 0
	for _, s := range []*side{a, b} {
		if s.isRecorded {
			w.ends[number]++
		}
	}
	w.end(a, b, number)
}

// end ends a connection in one of several ways. What is sent takes some time on the way, and rarely long.
func (w *world) end(a, b *side, number uint64) {
	const inTask = events.TaskContext | events.FileClosing | events.UnderLock
	way := time.Duration(20+w.IntN(400)) * time.Microsecond
	if w.IntN(50) == 0 {
		way += 200 * time.Millisecond // sent again
	}
	task := events.Task{PID: 4211, TID: 4211, Comm: "nginx"}
	rtt := uint32(2 * way / time.Microsecond)
	switch w.IntN(3) {
	case 0: // b closes with unread data
		w.event(b, number, 0, events.Event{
			Kind: events.KindClose, Task: task, Syscall: "close", Before: events.Established, After: events.Close,
			Flags: inTask | events.SentRST, UnreadBytes: 148, SRTTUS: rtt,
		})
		w.event(a, number, way, events.Event{
			Kind: events.KindDone, Before: events.Established, After: events.Close, SockErr: 104, SRTTUS: rtt,
			SegmentSeq: b.isn + 1 + b.sent, SegmentAck: a.isn + 1 + a.sent,
		})
	case 1: // a closes, then b
		w.event(a, number, 0, events.Event{
			Kind: events.KindClose, Task: task, Syscall: "close", Before: events.Established, After: events.FinWait1,
			Flags: inTask | events.SentFIN, SRTTUS: rtt,
		})
		w.event(b, number, way, events.Event{
			Kind: events.KindPeerFIN, Before: events.Established, After: events.CloseWait, Flags: events.PeerFIN,
		})
		w.event(b, number, way+time.Millisecond, events.Event{
			Kind: events.KindClose, Task: task, Syscall: "close", Before: events.CloseWait, After: events.LastAck,
			Flags: inTask | events.SentFIN | events.PeerFIN, SRTTUS: rtt,
		})
	case 2: // a segment that arrives where the socket is closed, and nothing of it is remembered
		w.event(b, number, 0, events.Event{
			Kind: events.KindReply, Flags: events.SentRST, SegmentFlags: 0x10, SegmentSeq: a.isn + 1 + a.sent - min(a.sent, 5),
			SegmentBytes: min(a.sent, 5), SegmentAck: b.isn + 1 + b.sent,
		})
		w.event(a, number, way, events.Event{
			Kind: events.KindDone, Before: events.Established, After: events.Close, SockErr: 104,
			SegmentSeq: b.isn + 1 + b.sent,
		})
	}
}

// joined classifies what each host recorded, and joins it.
func (w *world) joined(t *testing.T) (*Join, *Result, map[*end]uint64) {
	t.Helper()
	var recordings []Recording
	for _, h := range w.hosts {
		recordings = append(recordings, Recording{Header: h.header})
	}
	j := New(recordings)
	var numbers []uint64 // of the endings
	for i, h := range w.hosts {
		slices.SortStableFunc(h.events, func(x, y events.Event) int { return int(int64(x.MonoNS) - int64(y.MonoNS)) })
		c := classify.New(h.header)
		add := func(e *events.Ending) {
			j.Add(i, e)
			numbers = append(numbers, e.Evidence.BytesSent)
		}
		for k := range h.events {
			c.Push(&h.events[k], add)
		}
		c.Flush(add)
	}
	r := j.Conclude()
	of := map[*end]uint64{}
	for i := range j.endings {
		if e := j.endings[i].end; e != nil {
			if before, known := of[e]; known && before != numbers[i] {
				t.Fatalf("connections %d and %d have one end %+v", before, numbers[i], e)
			}
			of[e] = numbers[i]
		}
	}
	return j, r, of
}

// check fails on each wrong join, and returns how many connections were joined of those with both ends.
func (w *world) check(t *testing.T, j *Join, of map[*end]uint64) (joined, both int) {
	t.Helper()
	for e, number := range of {
		if e.other != nil && of[e.other] != number {
			t.Fatalf("connection %d was joined with %d: %+v and %+v", number, of[e.other], e, e.other)
		}
		if e.other != nil && e.local.Compare(e.other.local) < 0 {
			joined++
		}
	}
	for i := range j.endings {
		x := &j.endings[i]
		if x.cause >= 0 && of[x.end] != of[j.endings[x.cause].end] {
			t.Fatalf("%s of connection %d was caused by %d", x.path, of[x.end], of[j.endings[x.cause].end])
		}
	}
	for _, n := range w.ends {
		if n == 2 {
			both++
		}
	}
	return joined, both
}

// Of many connections with few ports, through address translation and with clocks that are hours apart, none is joined
// wrongly, and nearly all of which both ends were recorded are joined.
func TestManyConnections(t *testing.T) {
	const connections = 100_000
	for name, tt := range map[string]struct {
		plain, blind bool
		least        float64 // of the connections with both ends; without ids, those whose addresses nothing translates
	}{
		"fentry": {false, false, 0.999}, "tracepoint": {false, true, 0.999}, "before connections had ids": {true, false, 0.24},
	} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			w := newWorld(seed)
			w.plain, w.blind = tt.plain, tt.blind
			for n := range uint64(connections) {
				w.connection(n + 1)
			}
			j, r, of := w.joined(t)
			joined, both := w.check(t, j, of)
			if joined != r.Joined || float64(joined) < tt.least*float64(both) {
				t.Errorf("joined %d of %d with both ends: %+v", joined, both, r)
			}
			t.Logf("joined %d of %d with both ends, %d by address; %d ambiguous", joined, both, r.ByAddress, r.Ambiguous)
			w.checkClocks(t, r)
		})
	}
}

// checkClocks fails if the offset of a clock is wrong by more than the way of a segment.
func (w *world) checkClocks(t *testing.T, r *Result) {
	t.Helper()
	wrong := func(h *simulated) int64 { return h.header.WallOffsetNS + h.mono }
	for i, c := range r.Clocks {
		off := int64(c.Ahead) - (wrong(w.hosts[i]) - wrong(w.hosts[0]))
		if max(off, -off) > int64(250*time.Microsecond) || i > 0 && c.Samples < 1000 {
			t.Errorf("clock %d is %s ahead by %d samples, which is %s wrong", i, c.Ahead, c.Samples, time.Duration(off))
		}
	}
}
