package classify

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// The kernel gives the address of a socket that is gone to the next one, which
// may be in another network namespace.
func TestAnotherSocketAtTheSameAddress(t *testing.T) {
	gone := events.Event{Kind: events.KindDone, Sock: 1, Local: here, Remote: there, Netns: 7,
		Before: events.FinWait1, After: events.Close, SockErr: etimedout, Flags: events.Orphan, Retransmits: 8}
	reply := late(5)
	reply.Sock, reply.Netns, reply.Before = 1, 8, events.SynRecv
	endings, _ := conclude(gone, reply)
	if len(endings) != 2 {
		t.Fatalf("two endings became %d: %+v", len(endings), endings)
	}
	for _, e := range endings {
		if e.Netns == 7 && e.Path != events.AbortOrphanRetries || e.Netns == 8 && e.Before != events.SynRecv {
			t.Errorf("mixed up: %+v", e)
		}
	}
	reset := gotRST(0)
	closed := events.Event{Kind: events.KindClose, Sock: reset.Sock, Local: reset.Local, Netns: 8, MonoNS: 5,
		Flags: inTask, Before: events.Close, After: events.Close}
	if e := last(t, reset, closed); e.Path == events.ClosedReset {
		t.Errorf("the past of another socket: %+v", e)
	}
}

// A pending close is reported when another socket may have its address already:
// neither takes the other's history.
func TestPendingCloseAndNextSocket(t *testing.T) {
	shared := func(at uint64, of events.Event) events.Event {
		return events.Event{Kind: events.KindShared, Sock: of.Sock, MonoNS: at, Netns: of.Netns, Local: of.Local,
			Remote: of.Remote,
			Flags:  events.TaskContext, Syscall: "close", Task: closer, References: 1, Before: events.Established,
			After: events.Established}
	}
	ms := uint64(time.Millisecond)
	pending := byStates(0, 0)
	pending.Netns, pending.MonoNS = 7, ms
	next := closedBy(uint64(time.Second))
	next.Netns, next.Local, next.Remote = 8, there, here
	endings, _ := conclude(shared(0, pending), pending, shared(2*ms, next), next)
	closes := 0
	for _, e := range endings {
		if e.Path != events.CloseFINActive {
			continue
		}
		closes++
		if e.Earlier == nil || e.Earlier.Path != events.AppCloseShared {
			t.Errorf("netns %d: what went before is forgotten: %+v", e.Netns, e)
		}
	}
	if closes != 2 {
		t.Errorf("%d closes, want 2: %+v", closes, endings)
	}
}

// A connection is reset, its socket disconnected and closed. The next socket at the address is reset while that close
// waits behind its end: none of them is of the other connection.
func TestDisconnectedCloseAndNextSocket(t *testing.T) {
	ms := uint64(time.Millisecond)
	of := func(ev events.Event, at uint64, port uint16, task events.Task) events.Event {
		ev.MonoNS, ev.Local, ev.Task = at, here, task
		if port != 0 {
			ev.Remote = netip.AddrPortFrom(there.Addr(), port)
		}
		ev.FirstSent, ev.FirstReceived = uint32(port), 2*uint32(port)
		return ev
	}
	reset := events.Event{Kind: events.KindDone, Sock: 1, SockErr: econnreset, Before: events.Established,
		After: events.Close}
	closed := events.Event{Kind: events.KindClose, Sock: 1, Flags: inTask, Before: events.Close, After: events.Close}
	endings, _ := conclude(of(reset, ms, 5000, events.Task{}), of(closed, 2*ms, 0, closer),
		of(reset, 5*ms, 6000, events.Task{}), of(closed, 9*ms, 6000, victim))
	if len(endings) != 4 {
		t.Fatalf("%d endings: %+v", len(endings), endings)
	}
	for _, e := range endings {
		task, ago := closer.Comm, "1 ms"
		if e.Remote.Port() == 6000 {
			task, ago = victim.Comm, "4 ms"
		}
		if e.Path == events.RecvRST && e.Owner.Comm != task || e.Path == events.ClosedReset && (e.Actor.Comm != task ||
			!strings.Contains(e.Cause, " "+ago+" ago")) {
			t.Errorf("%s of %v: %q, by %v of %v", e.Path, e.Remote, e.Cause, e.Actor, e.Owner)
		}
	}
}

// While the end of a socket waits, the next one at its address is reset by MPTCP, or gets data after shutdown(2): what
// follows is of the second end.
func TestEndAtTheAddressOfAnother(t *testing.T) {
	of := func(ev events.Event, at uint64, port uint16) events.Event {
		ev.Sock, ev.MonoNS, ev.Local, ev.Remote = 1, at, here, netip.AddrPortFrom(there.Addr(), port)
		ev.FirstSent, ev.FirstReceived = uint32(port), 2*uint32(port)
		return ev
	}
	first := events.Event{Kind: events.KindDone, SockErr: econnreset, Before: events.Established, After: events.Close}
	reset := events.Event{Kind: events.KindReset, Flags: events.SentRST | events.TaskContext | events.MPTCP,
		Before: events.Established}
	takenDown := events.Event{Kind: events.KindDisconnect, Flags: inTask | events.MPTCP, Before: events.Established,
		After: events.Close}
	if endings, _ := conclude(of(first, 1, 5000), of(reset, 2, 6000), of(takenDown, 3, 6000)); len(endings) != 2 {
		t.Errorf("%+v", endings)
	}
	reply := events.Event{Kind: events.KindReply, Flags: events.SentRST, SockErr: epipe, ShutdownMask: 3,
		SegmentFlags: thACK, SegmentBytes: 9, Before: events.FinWait2, After: events.Close}
	closed := events.Event{Kind: events.KindClose, Task: closer, Flags: inTask, Before: events.Close, After: events.Close}
	e := last(t, of(first, 1, 5000), of(reply, 2, 6000), of(closed, 3, 6000))
	if e.Earlier == nil || e.Earlier.Path != events.ShutdownData {
		t.Errorf("%s after %+v", e.Path, e.Earlier)
	}
}

// A close is pending when a descriptor of the next socket is closed: that comes before the next close, not this one.
func TestPendingCloseAndNextShared(t *testing.T) {
	ms := uint64(time.Millisecond)
	pending := byStates(0, ms)
	pending.Local, pending.Remote = here, there
	next := byStates(0, 9*ms)
	next.Local, next.Remote = here, netip.AddrPortFrom(there.Addr(), 5001)
	shared := next
	shared.Kind, shared.MonoNS, shared.Syscall, shared.References = events.KindShared, 8*ms, "close", 1
	shared.Flags = events.TaskContext
	endings, _ := conclude(pending, shared, next)
	if len(endings) != 3 || endings[0].Path != events.CloseFINActive || endings[0].Earlier != nil ||
		endings[2].Earlier == nil {
		t.Errorf("%+v", endings)
	}
}

// A RST received waits for what sent it. Meanwhile the server closes the next connection of the client from the same
// port: the RST still comes after the close of its own.
func TestOrphanEndsBeforeNextConnection(t *testing.T) {
	ms := uint64(time.Millisecond)
	of := func(ev events.Event, first uint32) events.Event {
		ev.Sock, ev.FirstSent, ev.FirstReceived = uint64(first), first, 2*first
		return ev
	}
	reset := gotRST(2 * ms)
	reset.Local, reset.Remote, reset.Before, reset.Flags = here, there, events.FinWait1, events.Orphan
	pending := closedBy(0) // by changes of state
	pending.Flags |= events.ReturnUnseen
	for name, first := range map[string]events.Event{"reported": closedBy(0), "pending": pending} {
		endings, _ := conclude(of(first, 1000), of(reset, 1000), of(closedBy(9*ms), 500_000))
		e := endingOf(t, endings, events.RecvRST)
		if e.Earlier == nil || e.Owner == nil || !strings.Contains(e.Cause, ", 2 ms after "+closer.Comm) {
			t.Errorf("%s: %q, owner %+v", name, e.Cause, e.Owner)
		}
	}
}
