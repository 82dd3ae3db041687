package classify

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// server is the close of a connection that the peer began: bytes_sent is 0 and the
// sequence numbers count from the SYN-ACK.
func server(change ...func(*events.Event)) events.Event {
	ev := closedBy(0)
	ev.BytesReceived, ev.FirstSent, ev.SndNxt = 18, 5000, 5000
	for _, f := range change {
		f(&ev)
	}
	return ev
}

// client is the close of a connection that this side began: it has sent 5 bytes.
func client(change ...func(*events.Event)) events.Event {
	ev := closedBy(0)
	ev.BytesSent, ev.FirstSent, ev.SndNxt = 5, 5000, 5006
	for _, f := range change {
		f(&ev)
	}
	return ev
}

func exits(code int32) func(*events.Event) {
	return func(ev *events.Event) { ev.TaskFlags, ev.ExitCode = pfExiting, code }
}

func TestProcessEnd(t *testing.T) {
	oom := func(ev *events.Event) { ev.Flags |= events.OOMVictim }
	for want, ev := range map[string]events.Event{
		"nginx[42] was killed by SIGKILL; 18 B had come and nothing was sent; ESTABLISHED → FIN_WAIT1":        server(exits(9)),
		"nginx[42] was killed by the OOM killer; 18 B had come and nothing was sent; ESTABLISHED → FIN_WAIT1": server(exits(9), oom),
		"nginx[42] crashed (SIGSEGV); 18 B had come and nothing was sent; ESTABLISHED → FIN_WAIT1":            server(exits(0x80 | 11)),
		"nginx[42] crashed (SIGABRT); ": server(exits(6)),
		"nginx[42] was killed by SIGPIPE, which a write to a closed connection or pipe sends; ":         server(exits(13)),
		"nginx[42] was killed by signal 40; ":                                                           server(exits(40)),
		"nginx[42] exited without closing; 18 B had come and nothing was sent; ESTABLISHED → FIN_WAIT1": server(exits(0)),
		"nginx[42] exited without closing, with status 3; ":                                             server(exits(3 << 8)),
		"a thread of nginx[42] exited without closing; ": server(exits(0), func(ev *events.Event) {
			ev.Syscall, ev.Task.TID = "exit", 43
		}),
		"nginx[42] started another program (close-on-exec); ": server(func(ev *events.Event) { ev.Syscall = "execve" }),
		"java[42] started nginx (close-on-exec); ": server(func(ev *events.Event) {
			ev.Syscall, ev.Task.Process = "execve", "java"
		}),
		"a kernel thread dropped the last reference, for example that of an io_uring whose process has ended; 18 B": server(
			func(ev *events.Event) { ev.TaskFlags, ev.Flags = pfKthread, ev.Flags|events.FileClosing }),
		"18 B had come and nothing":                                        server(func(ev *events.Event) { ev.TaskFlags = pfKthread }),
		"java[42] was killed by SIGTERM; ":                                 server(exits(15), func(ev *events.Event) { ev.Task.Process = "java" }),
		"18 B had come and nothing was sent; ESTABLISHED → FIN_WAIT1":      server(),
		"nginx[42] was killed by SIGKILL; peer closed first":               server(exits(9), func(ev *events.Event) { ev.Before = events.CloseWait }),
		"nginx[42] was killed by SIGKILL; listener closed":                 server(exits(9), func(ev *events.Event) { ev.Before = events.Listen }),
		"nginx[42] was killed by SIGKILL; given up while connecting":       server(exits(9), func(ev *events.Event) { ev.Before, ev.Flags = events.SynSent, inTask }),
		"nginx[42] was killed by SIGKILL; 3 B unread in the receive queue": server(exits(9), func(ev *events.Event) { ev.UnreadBytes, ev.Flags = 3, inTask|events.SentRST }),
	} {
		if e := last(t, ev); !strings.HasPrefix(e.Cause, want) {
			t.Errorf("%q, want %q", e.Cause, want)
		}
	}
}

// A shutdown, a segment and a timer are not the end of a process.
func TestNoProcessEnd(t *testing.T) {
	rst := gotRST(0)
	rst.TaskFlags, rst.ExitCode, rst.Task = pfExiting, 9, closer
	if e := last(t, rst); strings.Contains(e.Cause, "killed") {
		t.Errorf("%q", e.Cause)
	}
}

// Whether a request was answered is only said of the side that accepted the
// connection, and only where the order of the last bytes is known.
func TestUnanswered(t *testing.T) {
	idle := func(received, sent uint32) func(*events.Event) {
		return func(ev *events.Event) { ev.IdleReceivedJiffies, ev.IdleSentJiffies = received, sent }
	}
	answered := func(ev *events.Event) { ev.BytesSent, ev.SndNxt = 7, 5007 }
	for name, tt := range map[string]struct {
		ev   events.Event
		want string
	}{
		"never": {server(), "18 B had come and nothing was sent; ESTABLISHED → FIN_WAIT1"},
		"the second request": {server(answered, idle(3, 9)),
			"all data read; data came after the last byte was sent and was not answered; ESTABLISHED → FIN_WAIT1"},
		"answered":                   {server(answered, idle(9, 3)), ""},
		"in the same jiffy":          {server(answered, idle(3, 3)), ""},
		"a client with its answer":   {client(func(ev *events.Event) { ev.BytesReceived = 99 }, idle(3, 9)), ""},
		"a client that only listens": {client(func(ev *events.Event) { ev.BytesSent, ev.SndNxt, ev.BytesReceived = 0, 5001, 99 }), ""},
		"not known which side":       {server(func(ev *events.Event) { ev.FirstSent = 0 }), ""},
		"retransmitted":              {server(answered, idle(3, 9), func(ev *events.Event) { ev.BytesSent = 14 }), ""},
		"nothing came":               {server(func(ev *events.Event) { ev.BytesReceived = 0 }), ""},
		"after the peer's FIN":       {server(func(ev *events.Event) { ev.Before, ev.After = events.CloseWait, events.LastAck }), "peer closed first; CLOSE_WAIT → LAST_ACK"},
	} {
		if tt.want == "" {
			tt.want = "all data read; ESTABLISHED → FIN_WAIT1"
		}
		e := last(t, tt.ev)
		if e.Cause != tt.want || e.Evidence.Unanswered != strings.Contains(tt.want, " sent") {
			t.Errorf("%s: %q, %v, want %q", name, e.Cause, e.Evidence.Unanswered, tt.want)
		}
	}
}

// A client that closes while it waits for an answer: 250 jiffies are a second.
func TestAwaited(t *testing.T) {
	for _, tt := range []struct {
		sent, received uint32
		got            uint64
		want           string
	}{
		{500, 500, 0, "closed 2.0 s after its last byte was sent, unanswered; ESTABLISHED → FIN_WAIT1"},
		{251, 500, 9, "closed 1.0 s after its last byte was sent, unanswered; ESTABLISHED → FIN_WAIT1"},
		{250, 500, 9, "all data read; ESTABLISHED → FIN_WAIT1"},
		{500, 500, 9, "all data read; ESTABLISHED → FIN_WAIT1"},
		{500, 251, 9, "all data read; ESTABLISHED → FIN_WAIT1"},
	} {
		ev := client(func(ev *events.Event) {
			ev.IdleSentJiffies, ev.IdleReceivedJiffies, ev.BytesReceived = tt.sent, tt.received, tt.got
		})
		if e := last(t, ev); !strings.HasPrefix(e.Cause, tt.want) {
			t.Errorf("%+v: %q", tt, e.Cause)
		}
	}
}

func TestGivenUpConnecting(t *testing.T) {
	attempt := func(ms uint32, retransmits uint8, icmp *events.ICMPError) events.Event {
		return events.Event{Kind: events.KindClose, Flags: inTask, Syscall: "close", Task: closer, Before: events.SynSent,
			After: events.Close, Local: here, Remote: there, RetransmittingMS: ms, Retransmits: retransmits, ICMP: icmp}
	}
	port := &events.ICMPError{Errno: 111, Origin: 2, Type: 3, Code: 3}
	for _, tt := range []struct {
		ev       events.Event
		path     events.Path
		want     string
		abnormal bool
	}{
		{attempt(3200, 3, nil), events.CloseSilentSynSent, "given up 3.2 s after the first SYN, 4 SYNs unanswered; neither FIN nor RST", true},
		{attempt(250, 0, nil), events.CloseSilentSynSent, "given up 250 ms after the first SYN, 1 SYN unanswered; neither FIN nor RST", false},
		{attempt(0, 0, nil), events.CloseSilentSynSent, "given up while connecting; neither FIN nor RST", false},
		{attempt(0, 0, port), events.RecvICMP, "ICMP port unreachable: ECONNREFUSED; the application gave up; neither FIN nor RST", true},
		{attempt(2, 0, port), events.RecvICMP, "ICMP port unreachable: ECONNREFUSED; the application gave up 2 ms after its first SYN; neither FIN nor RST", true},
	} {
		paths := map[events.Kind]events.Path{events.KindClose: tt.path, events.KindShutdown: shutdownOf(tt.path)}
		for kind, path := range paths {
			ev := tt.ev
			ev.Kind = kind
			e := last(t, ev)
			if e.Path != path || e.Cause != tt.want || e.Actor == nil || e.Doubt != "" {
				t.Errorf("%s %q by %v, want %s %q", e.Path, e.Cause, e.Actor, path, tt.want)
			}
			if kind == events.KindClose && e.IsAbnormal() != tt.abnormal {
				t.Errorf("%q is abnormal: %v", e.Cause, e.IsAbnormal())
			}
		}
	}
}

func shutdownOf(p events.Path) events.Path {
	if p == events.CloseSilentSynSent {
		return events.ShutdownSynSent
	}
	return p
}

func TestICMPInWords(t *testing.T) {
	for want, e := range map[string]events.ICMPError{
		"ICMP network unreachable: ENETUNREACH":          {Errno: 101, Origin: 2, Type: 3},
		"ICMP host unreachable: EHOSTUNREACH":            {Errno: 113, Origin: 2, Type: 3, Code: 1},
		"ICMP administratively prohibited: EHOSTUNREACH": {Errno: 113, Origin: 2, Type: 3, Code: 13},
		"ICMP time exceeded: EHOSTUNREACH":               {Errno: 113, Origin: 2, Type: 11},
		"ICMP type 3, code 99: EHOSTUNREACH":             {Errno: 113, Origin: 2, Type: 3, Code: 99},
		"ICMPv6 port unreachable: ECONNREFUSED":          {Errno: 111, Origin: 3, Type: 1, Code: 4},
		"ICMPv6 no route to host: ENETUNREACH":           {Errno: 101, Origin: 3, Type: 1},
		"ICMPv6 administratively prohibited: EACCES":     {Errno: 13, Origin: 3, Type: 1, Code: 1},
		"ICMPv6 time exceeded: EHOSTUNREACH":             {Errno: 113, Origin: 3, Type: 3},
	} {
		done := events.Event{Kind: events.KindDone, Before: events.SynSent, SockErr: int32(e.Errno), ICMP: &e,
			Stack: []string{"tcp_v4_err"}}
		got := last(t, done)
		if got.Path != events.RecvICMP || got.Cause != want || !strings.HasPrefix(want, got.Evidence.ICMP+": ") {
			t.Errorf("%s %q, want %q", got.Path, got.Cause, want)
		}
	}
}

// A RST for a connection that was closed reaches no application.
func TestResetOfOrphan(t *testing.T) {
	rst := func(change func(*events.Event)) events.Event {
		ev := gotRST(300 * ms)
		ev.Sock, ev.Local, ev.Remote = 1, here, there
		ev.Before, ev.Flags, ev.UnsentBytes, ev.UnackedBytes = events.FinWait1, orphan, 3_000_000, 500
		if change != nil {
			change(&ev)
		}
		return ev
	}
	const lost = "no application learns of it; 3,000,500 B that it believes sent are lost"
	const none = "no application learns of it; all output was acknowledged"
	inClose := func(flags events.Flags, call string) func(*events.Event) {
		return func(ev *events.Event) {
			ev.Flags, ev.Task, ev.Syscall = inTask|events.EndedInCall|flags, closer, call
		}
	}
	e := last(t, closedBy(0), rst(nil))
	if want := "in FIN_WAIT1, 300 ms after nginx[42] closed it (close.fin.active): " + lost; e.Cause != want {
		t.Errorf("%q, want %q", e.Cause, want)
	}
	for want, ev := range map[string]events.Event{
		"in FIN_WAIT1, after its close: " + lost: rst(nil),
		"in FIN_WAIT1, during close(2): " + lost: rst(inClose(orphan, "close")),
		"in FIN_WAIT1, during shutdown(2); the application gets ECONNRESET; 3,000,500 B of unacknowledged output discarded": rst(inClose(0, "shutdown")),
		"in FIN_WAIT2, after its close: " + none: rst(func(ev *events.Event) {
			ev.Before, ev.UnsentBytes, ev.UnackedBytes = events.FinWait2, 0, 0
		}),
	} {
		if e := last(t, ev); e.Path != events.RecvRST || e.Cause != want {
			t.Errorf("%s %q, want %q", e.Path, e.Cause, want)
		}
	}
}

// A connection was idle if nothing was sent and nothing was received.
func TestIdle(t *testing.T) {
	for _, tt := range []struct {
		received, sent uint32
		want           string
	}{
		{87500, 87600, "; nothing was sent or received for 350.0 s"},
		{251, 9999, "; nothing was sent or received for 1.0 s"},
		{250, 9999, ""},
		{9999, 250, ""},
	} {
		rst := gotRST(0)
		rst.IdleReceivedJiffies, rst.IdleSentJiffies = tt.received, tt.sent
		e := last(t, rst)
		if e.Cause != "ECONNRESET"+tt.want || e.Evidence.Idle > 0 != (tt.want != "") {
			t.Errorf("%+v: %q", tt, e.Cause)
		}
	}
}

// What a close in CLOSE finds in the receive queue is lost, and no RST says so.
func TestThrownAway(t *testing.T) {
	shut := closedBy(0)
	shut.Kind, shut.How = events.KindShutdown, 2
	closed := callOf(events.KindClose, 9)
	closed.Sock, closed.Local, closed.Remote, closed.UnreadBytes = 1, here, there, 4321
	closed.Flags |= events.PeerFIN
	e := last(t, shut, closed)
	if e.Path != events.ClosedTimeWait || !e.IsAbnormal() ||
		!strings.HasSuffix(e.Cause, "; 4,321 B unread were thrown away without a RST: the peer's FIN had come first") {
		t.Errorf("%s %q", e.Path, e.Cause)
	}
	// connect(AF_UNSPEC) on the closed socket clears the remote address, and that the FIN was received.
	cleared := closed
	cleared.Remote, cleared.UnreadBytes, cleared.Flags = netip.AddrPort{}, 0, inTask
	if e := last(t, shut, cleared); e.Path != events.ClosedTimeWait || e.Remote != there {
		t.Errorf("cleared: %s %q of %v", e.Path, e.Cause, e.Remote)
	}
	const unseen = "the peer's FIN had come; what ended the connection was not seen"
	e = last(t, closed)
	if want := unseen + "; 4,321 B unread were thrown away without a RST"; e.Path != events.CloseSilentClosed ||
		!e.IsAbnormal() || e.Cause != want {
		t.Errorf("%s %q", e.Path, e.Cause)
	}
}

// A socket that was bound has a local port, and no more.
func TestNeverConnected(t *testing.T) {
	bound := events.Event{Kind: events.KindClose, Flags: inTask, Syscall: "close", Local: here,
		Before: events.Close, After: events.Close}
	if e := last(t, bound); e.Path != events.ClosedNever || e.Doubt != "" {
		t.Errorf("%s, %q", e.Path, e.Doubt)
	}
	bound.FirstReceived = 77 // tcp_disconnect leaves rcv_nxt
	if e := last(t, bound); e.Path != events.CloseSilentClosed {
		t.Errorf("disconnected: %s", e.Path)
	}
}
