package classify

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

var closer = events.Task{PID: 42, TID: 42, Comm: "nginx"}

// closedBy is an active close with a FIN, of here to there.
func closedBy(at uint64) events.Event {
	return events.Event{Kind: events.KindClose, MonoNS: at, Sock: 1, Local: here, Remote: there, Netns: 7, Task: closer,
		Syscall: "close", Before: events.Established, After: events.FinWait1, Flags: inTask | events.SentFIN}
}

// late is data for here from there, which no socket takes.
func late(at uint64) events.Event {
	return events.Event{Kind: events.KindReply, MonoNS: at, Local: here, Remote: there, Netns: 7,
		Flags: events.SentRST, SegmentBytes: 5, SegmentFlags: thACK}
}

// gotRST is the end of there by a RST from here.
func gotRST(at uint64) events.Event {
	return events.Event{Kind: events.KindDone, MonoNS: at, Sock: 2, Local: there, Remote: here, Netns: 7,
		Before: events.Established, After: events.Close, SockErr: econnreset}
}

func last(t *testing.T, evs ...events.Event) events.Ending {
	t.Helper()
	endings, _ := conclude(evs...)
	if len(endings) == 0 {
		t.Fatal("no ending")
	}
	return endings[len(endings)-1]
}

// A RST in reply says which process closed the connection, and when.
func TestEarlier(t *testing.T) {
	second := uint64(time.Second)
	e := last(t, closedBy(0), late(second))
	if e.Earlier == nil || e.Earlier.Path != events.CloseFINActive || e.Earlier.AgoNS != second ||
		*e.Earlier.Actor != closer {
		t.Fatalf("earlier %+v", e.Earlier)
	}
	if !strings.Contains(e.Cause, "5 B arrived 1.0 s after nginx[42] closed") ||
		e.Actor != nil {
		t.Errorf("cause %q, actor %v", e.Cause, e.Actor)
	}
	// The same close explains the second segment, not the reply to the first; nor
	// has the peer's FIN in between changed it.
	fin := events.Event{
		Kind: events.KindPeerFIN, MonoNS: 1, Sock: 1, Local: here, Remote: there, Netns: 7,
		Before: events.FinWait2,
	}
	if e = last(t, closedBy(0), fin, late(second), late(2*second)); e.Earlier == nil ||
		e.Earlier.Path != events.CloseFINActive {
		t.Errorf("second segment: earlier %+v", e.Earlier)
	}
	// A v4-mapped socket has the addresses of its segments.
	mapped := closedBy(0)
	mapped.Local = netip.AddrPortFrom(netip.AddrFrom16(here.Addr().As16()), here.Port())
	mapped.Remote = netip.AddrPortFrom(netip.AddrFrom16(there.Addr().As16()), there.Port())
	if e = last(t, mapped, late(second)); e.Earlier == nil {
		t.Error("v4-mapped: not explained")
	}
}

// What is no part of the same connection does not explain it.
func TestNotEarlier(t *testing.T) {
	tests := []struct {
		name   string
		change func(first, reply *events.Event)
	}{
		{"another port", func(_, r *events.Event) { r.Remote = netip.AddrPortFrom(r.Remote.Addr(), 1) }},
		{"the other end", func(_, r *events.Event) { r.Local, r.Remote = r.Remote, r.Local }},
		{"a new connection begins", func(_, r *events.Event) { r.SegmentFlags = thSYN }},
		{"loopback of another namespace", func(f, r *events.Event) {
			lo := netip.MustParseAddr("127.0.0.1")
			f.Local, r.Local = netip.AddrPortFrom(lo, 443), netip.AddrPortFrom(lo, 443)
			f.Remote, r.Remote = netip.AddrPortFrom(lo, 5000), netip.AddrPortFrom(lo, 5000)
			r.Netns = 8
		}},
	}
	for _, tt := range tests {
		first, reply := closedBy(0), late(9)
		tt.change(&first, &reply)
		if e := last(t, first, reply); e.Earlier != nil || e.Path != events.ReplyNoSocket {
			t.Errorf("%s: %s, earlier %+v", tt.name, e.Path, e.Earlier)
		}
	}
	// A connection attempt at addresses that were used before is a new one.
	refused := events.Event{Kind: events.KindDone, MonoNS: 9, Sock: 5, Local: here, Remote: there, Netns: 7,
		Before: events.SynSent, After: events.Close, SockErr: econnrefused}
	if e := last(t, closedBy(0), refused); e.Path != events.RecvRST || e.Earlier != nil {
		t.Errorf("refused: %s, earlier %+v", e.Path, e.Earlier)
	}
}

// A RST in reply is of the last connection of its addresses if the number that its segment acknowledges was sent in it.
// A segment of an earlier one, which was long on its way, acknowledges an earlier number.
func TestReplyOfTheLastConnection(t *testing.T) {
	const sent = 100
	first := ^uint32(15) // the numbers wrap around
	connected := closedBy(0)
	connected.Flags |= events.Accepted
	connected.FirstSent, connected.FirstReceived, connected.SndNxt, connected.BytesSent = first, 7000, first+sent, sent
	for _, tt := range []struct {
		name  string
		seq   uint32
		ack   uint32
		isOf  bool
		hasID bool
	}{
		{"the first number", 7100, first, true, true},
		{"its FIN", 7100, first + sent + 1, true, true},
		{"an earlier connection", 7100, first - 1, false, false},
		{"a later connection", 7100, first + sent + 1000, false, false},
		{"late data again", ^uint32(4000), first, true, true},
		{"a later connection whose ACK fits by chance", 7100 + 1<<28, first, false, false},
		{"an earlier one", 7100 + 15<<28, first, false, false},
		{"no acknowledgment", 7100, 0, true, false},
	} {
		reply := late(9)
		reply.SegmentSeq, reply.SegmentAck = tt.seq, tt.ack
		e := last(t, connected, reply)
		if isOf := e.Earlier != nil; isOf != tt.isOf || (e.ConnectionID != 0) != tt.hasID {
			t.Errorf("%s: earlier %+v, connection %x", tt.name, e.Earlier, e.ConnectionID)
		}
	}
}

// A reply that comes while the close is pending does not wait: the close is
// reported first, so that it can explain the reply.
func TestReplyAfterPendingClose(t *testing.T) {
	pending := closedBy(0)
	pending.Flags |= events.ReturnUnseen
	endings, _ := conclude(pending, late(9))
	if len(endings) != 2 || endings[0].Path != events.CloseFINActive || endings[1].Earlier == nil {
		t.Errorf("%+v", endings)
	}
	other := late(9)
	other.Remote = netip.AddrPortFrom(there.Addr(), 1)
	endings, _ = conclude(pending, other)
	if len(endings) != 2 || endingOf(t, endings, events.ReplyNoSocket).Earlier != nil {
		t.Errorf("of another connection: %+v", endings)
	}
}

// A shutdown(2) before the close of a socket that has ended, or sent its FIN, does not hide what ended it.
func TestShutdownWithoutEffect(t *testing.T) {
	closing := callOf(events.KindClose, 500*ms)
	again := callOf(events.KindShutdown, 400*ms)
	again.How, again.Syscall = 3, "shutdown"
	if e := last(t, gotRST(0), again, closing); e.Path != events.ClosedReset || e.Earlier == nil {
		t.Errorf("after a RST: %s %q", e.Path, e.Cause)
	}
	first, noop, read := again, again, again
	first.MonoNS, first.Before, first.After, first.How = 0, events.Established, events.FinWait1, 2
	first.Flags |= events.SentFIN
	noop.Before, noop.After = events.FinWait2, events.FinWait2
	read.Before, read.After, read.How = events.FinWait2, events.FinWait2, 1
	closing.Flags |= events.PeerFIN
	for name, second := range map[string]events.Event{"both": noop, "for reading": read} {
		if e := last(t, first, second, closing); e.Path != events.ClosedTimeWait {
			t.Errorf("%s after a FIN: %s %q", name, e.Path, e.Cause)
		}
	}
	reply := late(600 * ms)
	reply.Local, reply.Remote, again.MonoNS = there, here, 450*ms
	if e := last(t, gotRST(0), again, reply); e.Earlier == nil || e.Earlier.Path != events.RecvRST {
		t.Errorf("a reply after it: %q", e.Cause)
	}
}

// The record of a close is written when it is over. A reply on another CPU may be recorded before, and waits for it.
// Tracepoint mode dates a close when its socket has left the hash table: the reply may have an earlier time as well.
func TestReplyRecordedBeforeClose(t *testing.T) {
	const second = uint64(time.Second)
	reply := late(second + 6000)
	for _, tt := range []struct {
		attach string
		began  uint64
		want   bool
	}{
		{"fentry", second, true}, {"fentry", second + 7000, false},
		{events.AttachTracepoint, second, true}, {events.AttachTracepoint, second + 17_000, true},
		{events.AttachTracepoint, second + uint64(time.Second), false},
	} {
		for _, state := range []events.State{events.StateUnknown, events.Listen, events.TimeWait} {
			closing := closedBy(tt.began)
			closing.Flags, closing.UnreadBytes, closing.After = inTask|events.SentRST, 3, events.Close
			reply.Before = state
			h := testHeader
			h.Attach = tt.attach
			for _, e := range concludeUnder(h, reply, closing) {
				if e.Trigger == events.TriggerSegment && (e.Earlier != nil) != tt.want {
					t.Errorf("%s, in %s, a close that began at %d: %q", tt.attach, state, tt.began, e.Cause)
				}
			}
		}
	}
}

// resetBy is a close with unread data, of here to there.
func resetBy(at uint64) events.Event {
	ev := closedBy(at)
	ev.Flags, ev.After, ev.UnreadBytes, ev.AtRST = inTask|events.SentRST, events.Close, 3, events.Established
	return ev
}

// A RST that came from this host names what the other end did: before it in the
// stream or, as the call had not returned, shortly after.
func TestPeer(t *testing.T) {
	for _, evs := range [][]events.Event{
		{resetBy(5), gotRST(9)},
		{gotRST(9), resetBy(5)},
		{late(5), gotRST(9)},
		{resetBy(0), late(8), gotRST(9), closedBy(uint64(time.Minute))},
	} {
		endings, _ := conclude(evs...)
		found := false
		for _, e := range endings {
			if e.Path != events.RecvRST {
				continue
			}
			found = true
			want, words := events.CloseRSTUnread, "peer nginx[42]: 3 B unread"
			if len(evs) > 2 || evs[0].Kind == events.KindReply {
				want, words = events.ReplyNoSocket, "sent by the kernel (reply.nosocket)" // the nearest in time
			}
			if e.Peer == nil || e.Peer.Path != want || !strings.Contains(e.Cause, words) {
				t.Errorf("peer %+v, want %s: %s", e.Peer, want, e.Cause)
			}
		}
		if !found {
			t.Errorf("no %s in %+v", events.RecvRST, endings)
		}
	}
}

// The RST of a timer waits for the end of its socket, and is reported before what
// it did, though that came first.
func TestPeerOfPendingReset(t *testing.T) {
	reset := events.Event{Kind: events.KindReset, MonoNS: uint64(3 * time.Millisecond), Sock: 1, Local: here,
		Remote: there, Netns: 7,
		Before: events.FinWait2, Flags: events.SentRST | orphan}
	e := last(t, gotRST(0), reset)
	if e.Path != events.RecvRST || e.Peer == nil || e.Peer.Path != events.AbortFINWait2 {
		t.Errorf("%s, peer %+v", e.Path, e.Peer)
	}
}

func TestNotPeer(t *testing.T) {
	tests := []struct {
		name        string
		first, then events.Event
	}{
		{"a FIN resets nothing", closedBy(5), gotRST(9)},
		{"too long ago", resetBy(0), gotRST(uint64(time.Second) + 1)},
	}
	timer := gotRST(9)
	timer.SockErr = etimedout
	tests = append(tests, struct {
		name        string
		first, then events.Event
	}{"a timer, not a RST", resetBy(5), timer})
	for _, tt := range tests {
		if e := last(t, tt.first, tt.then); e.Peer != nil {
			t.Errorf("%s: peer %+v", tt.name, e.Peer)
		}
	}
}

// An answer to data that ended the socket is one ending with the end itself.
func TestReplyJoinsTheEnd(t *testing.T) {
	done := events.Event{Kind: events.KindDone, MonoNS: 9, Sock: 1, Local: here, Remote: there, Netns: 7,
		Before: events.FinWait2, After: events.Close, SockErr: econnreset, Flags: orphan, Inode: 11}
	reply := late(10)
	reply.Sock, reply.Before, reply.After, reply.Flags = 1, events.Close, events.Close, events.SentRST|orphan
	endings, _ := conclude(closedBy(0), done, reply)
	if len(endings) != 2 || endings[1].Path != events.ReplyAfterClose || endings[1].Before != events.FinWait2 ||
		endings[1].Earlier == nil {
		t.Errorf("%+v", endings)
	}
	reply.Sock = 8
	if endings, _ = conclude(closedBy(0), done, reply); len(endings) != 3 {
		t.Errorf("of another socket: %+v", endings)
	}
}

func TestHarmless(t *testing.T) {
	fin := late(9)
	fin.SegmentBytes = 0
	if e := last(t, closedBy(0), fin); !e.Harmless {
		t.Error("an empty segment after our FIN loses nothing")
	}
	if e := last(t, closedBy(0), late(9)); e.Harmless {
		t.Error("data that was not read is lost")
	}
	if e := last(t, resetBy(0), fin); e.Harmless {
		t.Error("we had reset, not closed in good order")
	}
	fin.Before, fin.After, fin.Linger2Jiffies, fin.Flags = events.Close, events.Close, -1, fin.Flags|orphan
	if e := last(t, closedBy(0), fin); e.Path != events.CloseRSTLinger2Late || e.Earlier == nil || e.Harmless {
		t.Errorf("the peer may be sending: %s, earlier %v, harmless %v", e.Path, e.Earlier, e.Harmless)
	}
	ended := gotRST(9)
	ended.Before = events.LastAck
	if e := last(t, ended); !e.Harmless {
		t.Error("both FINs are sent and all is acknowledged")
	}
	ended.UnackedBytes = 1
	if e := last(t, ended); e.Harmless {
		t.Error("output is lost")
	}
	if e := last(t, gotRST(9)); e.Harmless {
		t.Error("in ESTABLISHED a RST is never harmless")
	}
}

// The close of a socket that ended before says why, if it is the same socket.
func TestClosedAfterEnd(t *testing.T) {
	end := func(errno int32, before events.State, stack ...string) events.Event {
		return events.Event{
			Kind: events.KindDone, Sock: 1, Local: here, Remote: there, Before: before, After: events.Close,
			SockErr: errno, Stack: stack,
		}
	}
	closing := events.Event{
		Kind: events.KindClose, MonoNS: uint64(time.Second), Sock: 1, Local: here, Remote: there,
		Before: events.Close, Flags: inTask,
	}
	disconnect := events.Event{
		Kind: events.KindDisconnect, Sock: 1, Local: here, Remote: there, Before: events.Established,
		Flags: inTask | events.SentRST, Syscall: "connect",
	}
	for _, tt := range []struct {
		first events.Event
		want  events.Path
	}{
		{end(econnreset, events.Established), events.ClosedReset},
		{end(etimedout, events.Established), events.ClosedTimeout},
		{end(econnaborted, events.Established), events.ClosedAborted},
		{end(econnrefused, events.SynSent), events.ClosedConnect},
		{end(113, events.SynSent, "tcp_v4_err"), events.ClosedICMP},
		{disconnect, events.ClosedDisconnected},
	} {
		if e := last(t, tt.first, closing); e.Path != tt.want || e.Earlier == nil || !strings.Contains(e.Cause, "ago") {
			t.Errorf("%s: %s, want %s", e.Path, e.Cause, tt.want)
		}
		// The address of the socket is used again, with another port.
		again := closing
		again.Local = netip.AddrPortFrom(here.Addr(), 444)
		if e := last(t, tt.first, again); e.Path != events.CloseSilentClosed || e.Earlier != nil {
			t.Errorf("reused address: %s, earlier %+v", e.Path, e.Earlier)
		}
		// It is closed once: the next socket at this address is another.
		if e := last(t, tt.first, closing, closing); e.Path != events.CloseSilentClosed {
			t.Errorf("closed twice: %s", e.Path)
		}
	}
}

// The last 16,384 connections are remembered.
func TestHistoryIsBounded(t *testing.T) {
	for others, known := range map[int]bool{16383: true, 16384: false} {
		evs := []events.Event{closedBy(0)}
		for i := range others {
			other := closedBy(uint64(i))
			other.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1)
			evs = append(evs, other)
		}
		if e := last(t, append(evs, late(1<<40))...); (e.Earlier != nil) != known {
			t.Errorf("after %d others: earlier %+v", others, e.Earlier)
		}
	}
}

// A scan, answered with a RST for each port, displaces no connection.
func TestScanDisplacesNothing(t *testing.T) {
	evs := []events.Event{closedBy(0)}
	for i := range 2 * 16384 {
		probe := late(uint64(i))
		probe.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1)
		probe.SegmentFlags = thSYN
		evs = append(evs, probe)
	}
	if e := last(t, append(evs, late(1<<40))...); e.Earlier == nil {
		t.Error("the close is forgotten")
	}
}

// A call that began before its socket ended, and returned after it, does not hide that end from the close.
func TestEndDuringShutdown(t *testing.T) {
	socket := events.Event{Sock: 1, Local: here, Remote: there, Netns: 7, FirstSent: 100, FirstReceived: 200}
	shutdown, data, closing := socket, socket, socket
	shutdown.Kind, shutdown.MonoNS, shutdown.Task, shutdown.How = events.KindShutdown, 1, closer, 3
	shutdown.Flags, shutdown.Before, shutdown.After = inTask|events.ReachedTCP|events.SentFIN, events.Established,
		events.FinWait1
	data.Kind, data.MonoNS, data.Before, data.After = events.KindReply, 9, events.FinWait2, events.Close
	data.Flags, data.SegmentBytes, data.SegmentFlags, data.SockErr = events.SentRST, 5, thACK, epipe
	closing.Kind, closing.MonoNS, closing.Task, closing.Flags = events.KindClose, 99, closer, inTask
	closing.Before, closing.After = events.Close, events.Close
	e := last(t, data, shutdown, closing)
	if e.Path != events.ClosedReset || e.Earlier == nil || e.Earlier.AgoNS != 90 {
		t.Errorf("%s: %s, %+v", e.Path, e.Cause, e.Earlier)
	}
}

// SOCK_DESTROY that waited for a socket which another one ended has done nothing.
func TestSecondAbort(t *testing.T) {
	first := events.Event{Kind: events.KindAbort, MonoNS: 1, Sock: 1, Local: here, Remote: there, Netns: 7, Task: closer,
		Flags: inTask | events.SentRST, Before: events.CloseWait, After: events.Close, SockErr: econnaborted}
	second := first
	second.MonoNS, second.Flags, second.Result = 2, inTask, -enoent
	for _, order := range [][]events.Event{{first, second}, {second, first}} {
		endings, _ := conclude(order...)
		if len(endings) != 1 || endings[0].Path != events.AbortDiag || !endings[0].RST {
			t.Errorf("%+v", endings)
		}
	}
}
