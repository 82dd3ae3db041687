package classify

import (
	"net/netip"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

const ms = uint64(time.Millisecond)

var victim = events.Task{PID: 77, TID: 78, Comm: "victim"}

// callOf is a call of the victim on the socket of [gotRST].
func callOf(kind events.Kind, at uint64) events.Event {
	return events.Event{Kind: kind, MonoNS: at, Sock: 2, Local: there, Remote: here, Netns: 7, Task: victim,
		Flags: inTask, Before: events.Close, After: events.Close, Syscall: "close"}
}

// The next call on a socket names the owner that a RST, a timer or ss -K took it from.
func TestLaterCallNamesOwner(t *testing.T) {
	timer := events.Event{Kind: events.KindReset, MonoNS: 0, Sock: 2, Local: there, Remote: here, Netns: 7,
		Before: events.Established, Flags: events.SentRST | events.KeepAlive, Stack: []string{"tcp_keepalive_timer"}}
	timedOut := gotRST(ms)
	timedOut.SockErr = etimedout
	killed := events.Event{
		Kind:    events.KindAbort,
		Sock:    2,
		Local:   there,
		Remote:  here,
		Netns:   7,
		Before:  events.Established,
		Task:    events.Task{PID: 9, Comm: "ss"},
		Flags:   inTask | events.SentRST,
		Syscall: "sendmsg",
	}
	answered := events.Event{Kind: events.KindReply, Sock: 2, Local: there, Remote: here, Netns: 7,
		Before: events.SynSent, Flags: events.SentRST, SegmentFlags: thACK}
	for name, evs := range map[string][]events.Event{
		"RST received":       {gotRST(0)},
		"keepalive":          {timer, timedOut},
		"ss -K":              {killed},
		"RST sent in reply":  {answered},
		"known from /proc":   {ownedByProc(gotRST(0))},
		"a write that fails": {gotRST(0), callOf(events.KindEPIPE, 50*ms)},
	} {
		for call, at := range map[events.Kind]uint64{events.KindClose: 99 * ms, events.KindShutdown: 60 * ms} {
			endings, _ := conclude(append(evs, callOf(call, at))...)
			e := endings[0]
			if e.Owner == nil || *e.Owner != victim || e.OwnerBy != events.OwnerByLaterCall {
				t.Errorf("%s, kind %d: %s has owner %v by %q", name, call, e.Path, e.Owner, e.OwnerBy)
			}
		}
	}
}

func ownedByProc(ev events.Event) events.Event {
	ev.Owner = &closer
	return ev
}

// Only a call on the same socket, in time, by a process names the owner.
func TestCallsThatNameNoOwner(t *testing.T) {
	late := callOf(events.KindClose, 101*ms)
	soon := callOf(events.KindClose, ms)
	other, kernel, softirq, reader := soon, soon, soon, soon
	other.Sock = 99
	kernel.TaskFlags = pfKthread
	softirq.Flags &^= events.TaskContext
	reader.Syscall = "readlinkat"
	for name, call := range map[string]events.Event{
		"too late": late, "another socket": other, "kernel thread": kernel, "softirq": softirq,
		"reader of /proc": reader,
	} {
		endings, _ := conclude(gotRST(0), call)
		for _, e := range endings {
			if e.Path == events.RecvRST && e.Owner != nil {
				t.Errorf("%s: owner %v by %s", name, e.Owner, e.OwnerBy)
			}
		}
	}
	e := last(t, ownedByProc(gotRST(0)))
	if e.Owner != &closer || e.OwnerBy != events.OwnerByProc {
		t.Errorf("without a call: owner %v by %q, want that of /proc", e.Owner, e.OwnerBy)
	}
}

// The owner is looked up while the ending still waits for a later call, which may name another, and again in the end.
func TestOwnerIsLookedUpEarly(t *testing.T) {
	for name, tt := range map[string]struct {
		held  uint64 // when the owner closes its socket, unseen
		call  uint64 // when it makes a call that is seen; 0: never
		by    events.OwnerBy
		asked int
	}{
		"closed soon after": {held: 110 * ms, by: events.OwnerByProc, asked: 1},
		"a later call":      {held: 200 * ms, call: 95 * ms, by: events.OwnerByLaterCall, asked: 1},
		"an earlier call":   {held: 200 * ms, call: 20 * ms, by: events.OwnerByLaterCall},
		"nobody held it":    {asked: 2},
	} {
		c, asked, now := New(testHeader), 0, uint64(0)
		c.Complete = func(ev *events.Event) {
			if asked++; now < tt.held {
				ev.Owner = &closer
			}
		}
		var got []events.Ending
		keep := func(e *events.Ending) { got = append(got, *e) }
		rst := gotRST(0)
		rst.Inode = 1
		c.Push(&rst, keep)
		for now = 10 * ms; now <= 150*ms; now += 10 * ms {
			if tt.call != 0 && tt.call/(10*ms) == now/(10*ms) {
				call := callOf(events.KindClose, tt.call)
				c.Push(&call, keep)
			}
			if now%(50*ms) == 0 {
				c.Advance(now, keep)
			}
		}
		if len(got) == 0 || got[0].OwnerBy != tt.by || asked != tt.asked {
			t.Errorf("%s: %+v after %d look-ups, want %q after %d", name, got, asked, tt.by, tt.asked)
		}
	}
}

// A segment that is taken from the backlog while a task is in a call on the socket concerns that task.
func TestCallInProgressNamesOwner(t *testing.T) {
	inCall := gotRST(0)
	inCall.Flags, inCall.Task, inCall.Syscall = inTask, victim, "recvfrom"
	e := last(t, inCall)
	if e.Owner == nil || *e.Owner != victim || e.OwnerBy != events.OwnerByCall || e.Actor != nil {
		t.Errorf("owner %v by %q, actor %v", e.Owner, e.OwnerBy, e.Actor)
	}
	destroyed := inCall // tracepoint mode shows SOCK_DESTROY so
	destroyed.SockErr, destroyed.Syscall = econnaborted, "sendmsg"
	if e := last(t, destroyed); e.Owner != nil {
		t.Errorf("%s: owner %v, which destroyed the socket of another", e.Path, e.Owner)
	}
}

// The call that names the owner comes after the end of its socket, and the RST of the peer, whose call returns
// later, explains that end.
func TestCallWaitsBehindEnd(t *testing.T) {
	rst := closedBy(0)
	rst.Flags, rst.After, rst.UnreadBytes = inTask|events.SentRST, events.Close, 5
	endings, _ := conclude(gotRST(ms), callOf(events.KindClose, 2*ms), rst)
	if len(endings) != 3 || endings[0].Path != events.CloseRSTUnread || endings[1].Path != events.RecvRST ||
		endings[2].Path != events.ClosedReset {
		t.Fatalf("%v", pathsOf(endings))
	}
	if p := endings[1].Peer; p == nil || p.Path != events.CloseRSTUnread || *p.Actor != closer {
		t.Errorf("peer %+v", p)
	}
	if p := endings[2].Earlier; p == nil || p.Path != events.RecvRST {
		t.Errorf("the close comes after %+v", p)
	}
}

// A RST that close(2) takes from its backlog is an ending of its own, after that close.
func TestResetInsideClose(t *testing.T) {
	inside := gotRST(2 * ms)
	inside.Flags, inside.Task = inTask|events.EndedInCall|orphan, closer
	inside.Before, inside.UnackedBytes = events.FinWait1, 500
	byReturn := closedBy(ms) // reported at its return, after the RST
	byReturn.Sock, byReturn.Local, byReturn.Remote = 2, there, here
	byState := byReturn // reported at its first change of state, before the RST
	byState.Flags |= events.ReturnUnseen
	for name, evs := range map[string][]events.Event{
		"by its return": {inside, byReturn}, "by its state": {byState, inside},
	} {
		endings, _ := conclude(evs...)
		if len(endings) != 2 || endings[0].Path != events.CloseFINActive || endings[1].Path != events.RecvRST {
			t.Errorf("%s: %v", name, pathsOf(endings))
			continue
		}
		e := endings[1]
		if e.Owner == nil || *e.Owner != closer || e.Earlier == nil || e.Earlier.Path != events.CloseFINActive ||
			e.Evidence.UnackedBytes != 500 {
			t.Errorf("%s: owner %v, earlier %+v, %d B lost", name, e.Owner, e.Earlier, e.Evidence.UnackedBytes)
		}
	}
}

// The sockets that a server accepts have one local port, and the next one often has the address of the last one.
func TestSocketsAtOneAddress(t *testing.T) {
	worker := events.Task{PID: 88, TID: 88, Comm: "worker"}
	first, peer := there, here
	other := func(ev events.Event) events.Event {
		ev.Remote, ev.FirstSent, ev.FirstReceived = netip.AddrPortFrom(peer.Addr(), peer.Port()+1), 7000, 8000
		return ev
	}
	closed := callOf(events.KindClose, 0) // by tracepoints: it waits for a RST
	closed.Local, closed.Before, closed.After = first, events.Established, events.FinWait1
	closed.Flags |= events.SentFIN | events.ReturnUnseen
	closed.FirstSent, closed.FirstReceived = 5000, 6000
	orphan := gotRST(ms)
	orphan.Before, orphan.Flags = events.FinWait1, events.Orphan
	orphan.FirstSent, orphan.FirstReceived = 5000, 6000

	endings, _ := conclude(closed, other(gotRST(2*ms)))
	if e := endings[len(endings)-1]; e.Path != events.RecvRST || e.Owner != nil {
		t.Errorf("%s has the owner of the socket before, %v by %q", e.Path, e.Owner, e.OwnerBy)
	}

	// Its own close names it, and waits behind its own end: not behind that of the socket before.
	call := other(callOf(events.KindClose, 80*ms))
	call.Task = worker
	endings, _ = conclude(closed, orphan, other(gotRST(60*ms)), call)
	end, done := endings[len(endings)-2], endings[len(endings)-1]
	if end.Path != events.RecvRST || end.Owner == nil || *end.Owner != worker || done.Path != events.ClosedReset {
		t.Errorf("%s of %v, then %s %q", end.Path, end.Owner, done.Path, done.Cause)
	}

	// The first socket was closed unseen: the call on the second one does not name its owner.
	lost := gotRST(0)
	lost.FirstSent, lost.FirstReceived = 5000, 6000
	endings, _ = conclude(lost, call)
	if e := endings[0]; e.Path != events.RecvRST || e.Owner != nil {
		t.Errorf("%s has the owner of the socket after it, %v by %q", e.Path, e.Owner, e.OwnerBy)
	}

	// A reply completes the end of its own socket.
	reply := other(events.Event{Kind: events.KindReply, MonoNS: 5 * ms, Sock: 2, Local: there, Netns: 7,
		Before: events.Close, After: events.Close, Flags: events.SentRST | events.Orphan, SegmentBytes: 4})
	ended := other(gotRST(4 * ms))
	ended.Before, ended.Flags = events.FinWait2, events.Orphan
	endings, _ = conclude(orphan, ended, reply)
	if len(endings) != 2 || endings[0].Path != events.RecvRST && endings[1].Path != events.RecvRST {
		t.Errorf("a reply at the address of a socket that a RST ended: %v", pathsOf(endings))
	}
	for _, e := range endings {
		if e.Path == events.RecvRST && e.Remote != orphan.Remote {
			t.Errorf("the RST is that of %v", e.Remote)
		}
	}
}
