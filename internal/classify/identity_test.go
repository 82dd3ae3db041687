package classify

import (
	"net/netip"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// The connection of these tests: here accepted it, there connected, so that there counts its SYN.
const (
	isnHere  = 0xfffffff0 // wraps soon
	isnThere = 1000
)

// numbered gives an event of here the sequence numbers of a connection on which here sent and received 100 B.
func numbered(ev events.Event) events.Event {
	ev.FirstSent, ev.SndNxt = wrapped(isnHere, 1), wrapped(isnHere, 101)
	ev.FirstReceived, ev.BytesSent, ev.BytesReceived = isnThere+1, 100, 100
	return ev
}

// numberedThere is numbered for an event of there.
func numberedThere(ev events.Event) events.Event {
	ev.FirstSent, ev.SndNxt = isnThere, isnThere+101
	ev.FirstReceived, ev.BytesSent, ev.BytesReceived = wrapped(isnHere, 1), 100, 100
	return ev
}

func wrapped(isn uint32, n uint32) uint32 { return isn + n }

func resetWith(at uint64) events.Event {
	rst := closedBy(at)
	rst.Flags, rst.After, rst.UnreadBytes = inTask|events.SentRST, events.Close, 5
	return rst
}

// The peer of a reset is found by sequence numbers: through address translation, in another network namespace, and not
// where only the addresses agree.
func TestPeerByIdentity(t *testing.T) {
	translated := numberedThere(gotRST(1))
	translated.Local = netip.MustParseAddrPort("172.17.0.2:40000")
	translated.Remote = netip.MustParseAddrPort("10.96.0.1:80")
	translated.Netns = 99
	another := numberedThere(gotRST(1))
	another.FirstReceived += 5000
	later := numberedThere(gotRST(1))
	later.FirstSent += 5000
	late := numberedThere(gotRST(uint64(time.Second) + 1))
	for name, tt := range map[string]struct {
		rst, got events.Event
		joined   bool
	}{
		"the other end":                            {numbered(resetWith(0)), numberedThere(gotRST(1)), true},
		"translated, in another namespace":         {numbered(resetWith(0)), translated, true},
		"the same addresses, another connection":   {numbered(resetWith(0)), another, false},
		"the same addresses, a later connection":   {numbered(resetWith(0)), later, false},
		"the same numbers, more than a second ago": {numbered(resetWith(0)), late, false},
		"a recording without numbers":              {resetWith(0), gotRST(1), true},
	} {
		e := last(t, tt.rst, tt.got)
		if e.Path != events.RecvRST || (e.Peer != nil) != tt.joined {
			t.Errorf("%s: %s, peer %+v", name, e.Path, e.Peer)
		}
	}
}

// What sent a RST may wait for the call that names its owner, while the next socket at the address of the end that got
// the RST lets that one wait no longer.
func TestPeerThatWaitsForItsOwner(t *testing.T) {
	killed := numbered(events.Event{
		Kind: events.KindAbort, MonoNS: 5, Sock: 1, Local: here, Remote: there, Netns: 7, SockErr: econnaborted,
		Task: events.Task{PID: 9, TID: 9, Comm: "ss"}, Before: events.Established, After: events.Close,
		Flags: inTask | events.SentRST,
	})
	refused := numbered(events.Event{
		Kind: events.KindReply, MonoNS: 5, Sock: 1, Local: here, Remote: there, Netns: 7, SockErr: epipe,
		Before: events.FinWait1, After: events.Close, ShutdownMask: 3, Flags: events.SentRST,
		SegmentBytes: 5, SegmentFlags: thACK, SegmentSeq: isnThere + 96, SegmentAck: wrapped(isnHere, 101),
	})
	next := closedBy(12)
	next.Sock, next.Local, next.Remote = 2, netip.AddrPortFrom(there.Addr(), 40001), here
	for name, rst := range map[string]events.Event{"abort.diag": killed, "shutdown.rdwr.data": refused} {
		endings, _ := conclude(rst, numberedThere(gotRST(9)), next)
		if len(endings) != 3 {
			t.Fatalf("%s: %+v", name, endings)
		}
		e := endings[0]
		if e.Path != events.RecvRST || e.Peer == nil || string(e.Peer.Path) != name {
			t.Errorf("%s, peer %+v, want %s: %s", e.Path, e.Peer, name, e.Cause)
		}
	}
	other := killed
	other.FirstReceived += 1000
	endings, _ := conclude(other, numberedThere(gotRST(9)), next)
	if len(endings) != 3 || endings[0].Peer != nil {
		t.Errorf("another connection of these addresses: %+v", endings)
	}
}

// A RST in reply is found by the number that it has on the wire.
func TestReplyByNumber(t *testing.T) {
	reply := late(0) // of here, to data of there
	reply.SegmentSeq, reply.SegmentAck = isnThere+51, wrapped(isnHere, 101)
	other := reply
	other.SegmentAck++
	ahead := reply
	ahead.SegmentSeq = isnThere + 200   // there has not sent that
	closing := numberedThere(gotRST(1)) // the data crossed the FIN of here
	closing.Before, closing.SockErr, closing.Flags = events.CloseWait, epipe, events.PeerFIN
	refused := late(0)
	refused.SegmentSeq, refused.SegmentFlags = isnThere, thSYN
	connecting := gotRST(1)
	connecting.Before, connecting.SockErr = events.SynSent, econnrefused
	connecting.FirstSent, connecting.SndNxt = isnThere, isnThere+1
	for name, tt := range map[string]struct {
		reply, got events.Event
		joined     bool
	}{
		"to data":              {reply, numberedThere(gotRST(1)), true},
		"to data before a FIN": {reply, closing, true},
		"to a SYN":             {refused, connecting, true},
		"another number":       {other, numberedThere(gotRST(1)), false},
		"to what was not sent": {ahead, numberedThere(gotRST(1)), false},
	} {
		e := last(t, tt.reply, tt.got)
		if e.Path != events.RecvRST || (e.Peer != nil) != tt.joined {
			t.Errorf("%s: %s, peer %+v", name, e.Path, e.Peer)
		}
	}
	second := reply // the first has reset the socket before this one arrives
	second.MonoNS, second.Before = 1, events.TimeWait
	if e := last(t, reply, second, numberedThere(gotRST(2))); e.Peer == nil || e.Peer.Path != events.ReplyNoSocket {
		t.Errorf("two with one number: %s, peer %+v", e.Path, e.Peer)
	}
}

// A close and a RST in reply to data reset one socket at about the same time. Only the second has no ACK.
func TestPeerOfTwo(t *testing.T) {
	closed := numbered(resetWith(0))
	reply := late(1) // of here, to data of there
	reply.SegmentSeq, reply.SegmentAck = isnThere+51, wrapped(isnHere, 101)
	for flags, want := range map[uint8]events.Path{thRST | thACK: last(t, closed).Path, thRST: events.ReplyNoSocket} {
		got := numberedThere(gotRST(2))
		got.SegmentFlags = flags
		if e := last(t, closed, reply, got); e.Peer == nil || e.Peer.Path != want {
			t.Errorf("flags %#x: peer %+v, want %s: %q", flags, e.Peer, want, e.Cause)
		}
	}
}

// What this side did with an earlier connection of the same addresses explains nothing of a later one, nor does what
// happened in another network namespace.
func TestEarlierIsOfTheSameConnection(t *testing.T) {
	ofThis := late(5)
	ofThis.SegmentSeq, ofThis.SegmentAck = isnThere+101, wrapped(isnHere, 102) // the FIN, too
	ofNext := ofThis
	ofNext.SegmentAck = wrapped(isnHere, 104)
	elsewhere := ofThis
	elsewhere.Netns++
	ofBefore := ofThis
	ofBefore.SegmentAck -= 1<<30 + 1<<29
	socket := numbered(late(5))
	socket.Sock, socket.Before, socket.Flags = 1, events.FinWait2, events.SentRST|orphan
	nextSocket := socket
	nextSocket.FirstSent += 5000
	for name, tt := range map[string]struct {
		reply events.Event
		known bool
	}{
		"a late segment":                         {ofThis, true},
		"a segment of the next connection":       {ofNext, false},
		"a segment of one long ago":              {ofBefore, false},
		"a segment in another namespace":         {elsewhere, false},
		"to the orphan":                          {socket, true},
		"to the orphan of the next connection":   {nextSocket, false},
		"a segment of a recording without these": {late(5), true},
	} {
		e := last(t, numbered(closedBy(0)), tt.reply)
		if (e.Earlier != nil) != tt.known {
			t.Errorf("%s: %s, earlier %+v", name, e.Path, e.Earlier)
		}
	}
}

// A close that is reported late does not displace what was done with a later connection of the same addresses.
func TestLateReportDisplacesNothing(t *testing.T) {
	old := closedBy(1) // reported by its state, pending for 20 ms
	old.Flags |= events.ReturnUnseen
	next := resetWith(2)
	next.Sock = 5
	c := New(testHeader)
	var endings []events.Ending
	for _, ev := range []events.Event{old, next} {
		c.Push(&ev, func(*events.Ending) {})
	}
	c.Advance(uint64(time.Second), func(*events.Ending) {})
	reply := late(uint64(time.Second))
	c.Push(&reply, func(e *events.Ending) { endings = append(endings, *e) })
	if len(endings) != 1 || endings[0].Earlier == nil || endings[0].Earlier.Path != events.CloseRSTUnread {
		t.Errorf("%v, earlier %+v", pathsOf(endings), endings[0].Earlier)
	}
}

// MPTCP resets a subflow and then takes it down, which is no ending. The next subflow may have the address and the port
// of its socket: its FIN is one.
func TestSubflowAtTheAddressOfAnother(t *testing.T) {
	rst := numbered(events.Event{Kind: events.KindReset, Sock: 1, Local: here, Remote: there, Netns: 7, Task: closer,
		Before: events.Established, Flags: inTask | events.SentRST | events.MPTCP, KernelReason: "TCP_ABORT_ON_CLOSE"})
	down := rst
	down.Kind, down.Flags = events.KindDisconnect, inTask|events.MPTCP|events.Disconnected
	down.After, down.MonoNS = events.Close, 1
	next := rst
	next.Kind, next.Flags, next.After = events.KindFIN, events.SentFIN|events.MPTCP, events.FinWait1
	next.MonoNS, next.FirstSent, next.FirstReceived = uint64(time.Second), rst.FirstSent+5000, rst.FirstReceived+7000
	endings, _ := conclude(rst, down, next)
	if got := pathsOf(endings); got != "abort.mptcp close.fin.active" {
		t.Errorf("%s", got)
	}
}

// Both ends of a connection have one id, whichever connected; it changes with each initial sequence number, and without
// one, or not knowing who connected, there is none.
func TestConnectionID(t *testing.T) {
	here, there := numbered(events.Event{Flags: events.Accepted}), numberedThere(events.Event{Flags: events.Connected})
	id := connectionID(&here)
	if id == 0 || connectionID(&there) != id {
		t.Errorf("here %016x, there %016x", id, connectionID(&there))
	}
	seen := map[uint64]string{id: "the first"}
	for name, change := range map[string]func(*events.Event){
		"another one sent":     func(ev *events.Event) { ev.FirstSent++ },
		"another one received": func(ev *events.Event) { ev.FirstReceived-- },
	} {
		ev := here
		change(&ev)
		if other := seen[connectionID(&ev)]; other != "" {
			t.Errorf("%s: the id of %s", name, other)
		}
		seen[connectionID(&ev)] = name
	}
	for name, change := range map[string]func(*events.Event){
		"nothing received": func(ev *events.Event) { ev.FirstReceived = 0 },
		"no socket":        func(ev *events.Event) { ev.FirstSent = 0 },
		"not known who":    func(ev *events.Event) { ev.Flags = 0 },
	} {
		ev := here
		change(&ev)
		if got := connectionID(&ev); got != 0 {
			t.Errorf("%s: %016x", name, got)
		}
	}
}

// The service is at the end that accepted the connection, or got its SYN.
func TestService(t *testing.T) {
	for name, tt := range map[string]struct {
		event events.Event
		want  events.End
	}{
		"accepted":  {events.Event{Kind: events.KindClose, Flags: events.Accepted}, events.EndLocal},
		"connected": {events.Event{Kind: events.KindClose, Flags: events.Connected}, events.EndRemote},
		"older":     {events.Event{Kind: events.KindClose}, events.EndUnknown},
		"SYN":       {events.Event{Kind: events.KindReply, SegmentFlags: thSYN}, events.EndLocal},
		"SYN-ACK":   {events.Event{Kind: events.KindReply, SegmentFlags: thSYN | thACK}, events.EndUnknown},
		"segment":   {events.Event{Kind: events.KindReply, SegmentFlags: thACK}, events.EndUnknown},
	} {
		ev := tt.event
		ev.MonoNS, ev.Local, ev.Remote = 1, netip.MustParseAddrPort("10.0.0.5:443"), netip.MustParseAddrPort("10.0.0.9:51234")
		if ev.Kind == events.KindReply {
			ev.Flags |= events.SentRST
		} else {
			ev.Before, ev.After = events.Established, events.FinWait1
		}
		var got []events.End
		c := New(events.Header{})
		add := func(e *events.Ending) { got = append(got, e.Service) }
		c.Push(&ev, add)
		c.Flush(add)
		if len(got) != 1 || got[0] != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}
