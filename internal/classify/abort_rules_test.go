package classify

import (
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// endCase is an event that is not the application's close or shutdown, and the
// path it must be given.
type endCase struct {
	name string
	ev   events.Event
	want events.Path
}

func checkEnds(t *testing.T, cases []endCase, by events.Trigger, complete func(*events.Event)) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			complete(&c.ev)
			endings, unexplained := conclude(c.ev)
			if len(endings) != 1 || unexplained != 0 {
				t.Fatalf("%d endings, %d unexplained", len(endings), unexplained)
			}
			e := endings[0]
			if e.Path != c.want || e.Trigger != by || e.Cause == "" {
				t.Errorf("%s by %s (%s), want %s by %s", e.Path, e.Trigger, e.Cause, c.want, by)
			}
			if byKernel := by == events.TriggerSegment || by == events.TriggerTimer; byKernel != (e.Actor == nil) {
				t.Errorf("actor %v", e.Actor)
			}
		})
	}
}

func TestDisconnectVerdicts(t *testing.T) {
	checkEnds(t, []endCase{
		{"established", events.Event{Before: events.Established, Flags: events.SentRST}, events.DisconnectRST},
		{"after the peer's FIN", events.Event{Before: events.CloseWait, Flags: events.SentRST}, events.DisconnectRST},
		{"both FINs sent, output unsent", events.Event{
			Before: events.LastAck, Flags: events.SentRST, UnsentBytes: 1,
		}, events.DisconnectRSTUnsent},
		{"both FINs sent", events.Event{Before: events.Closing}, events.DisconnectSilent},
		{"connecting", events.Event{Before: events.SynSent}, events.DisconnectSilent},
		{"repair", events.Event{Before: events.Established, Flags: events.Repair}, events.DisconnectSilent},
		{"listener", events.Event{Before: events.Listen, ChildrenReset: 1}, events.DisconnectListen},
	}, events.TriggerConnect, func(ev *events.Event) {
		ev.Kind, ev.Syscall = events.KindDisconnect, "connect"
		ev.Flags |= inTask | events.Disconnected
	})
}

// In tracepoint mode connect(2) and sock_diag are distinguished from shutdown(2) by the
// system call.
func TestDisconnectByStates(t *testing.T) {
	for syscall, want := range map[string]events.Path{
		"connect": events.DisconnectListen, "sendto": events.AbortDiagListen, "sendmsg": events.AbortDiagListen,
		"shutdown": events.ShutdownListen,
	} {
		ev := events.Event{Kind: events.KindShutdown, Before: events.Listen, After: events.Close, Syscall: syscall,
			Flags: inTask | events.ReturnUnseen | events.Disconnected}
		if endings, _ := conclude(ev); len(endings) != 1 || endings[0].Path != want {
			t.Errorf("%s: %+v, want %s", syscall, endings, want)
		}
	}
	child := events.Event{Kind: events.KindReset, Before: events.Established, Listener: 9, Flags: inTask | events.SentRST}
	for syscall, want := range map[string]events.Trigger{
		"sendto": events.TriggerNetlink, "close": events.TriggerClose, "accept4": events.TriggerLastReference,
	} {
		child.Syscall = syscall
		if endings, _ := conclude(child); endings[0].Path != events.CloseRSTChild || endings[0].Trigger != want {
			t.Errorf("child, %s: %s by %s, want %s", syscall, endings[0].Path, endings[0].Trigger, want)
		}
	}
}

// The end of an MPTCP listener is not seen in fentry and kprobe mode, and what it
// does to its connections has no actor.
func TestChildOfUnseenListener(t *testing.T) {
	e, _ := conclude(events.Event{Kind: events.KindReset, Before: events.Close, Flags: events.SentRST,
		Stack: []string{"tcp_send_active_reset", "tcp_disconnect", "inet_csk_listen_stop", "mptcp_close"}})
	if len(e) != 1 || e[0].Path != events.CloseRSTChild || e[0].Trigger != events.TriggerClose || e[0].Actor != nil {
		t.Errorf("%+v", e)
	}
}

func TestAbortVerdicts(t *testing.T) {
	checkEnds(t, []endCase{
		{"established", events.Event{Before: events.Established, Flags: events.SentRST}, events.AbortDiag},
		{"connecting", events.Event{Before: events.SynSent}, events.AbortDiag},
		{"listener", events.Event{Before: events.Listen, ChildrenReset: 2}, events.AbortDiagListen},
	}, events.TriggerNetlink, func(ev *events.Event) {
		ev.Kind, ev.Syscall, ev.SockErr = events.KindAbort, "sendto", econnaborted
		ev.Flags |= inTask
	})
	// By states: a RST, then the end with its error. Both are one ending.
	reset := events.Event{Kind: events.KindReset, Sock: 3, Before: events.Established, Flags: inTask | events.SentRST}
	done := events.Event{
		Kind: events.KindDone, Sock: 3, MonoNS: 9, Before: events.Established, After: events.Close,
		Flags: inTask, SockErr: econnaborted,
	}
	endings, unexplained := conclude(reset, done)
	if len(endings) != 1 || unexplained != 0 || endings[0].Path != events.AbortDiag ||
		endings[0].Actor == nil || endings[0].After != events.Close {
		t.Errorf("by states: %+v, %d unexplained", endings, unexplained)
	}
}

const orphan = events.Orphan

func TestTimerVerdicts(t *testing.T) {
	reset := func(before events.State, flags events.Flags, stack ...string) events.Event {
		return events.Event{Kind: events.KindReset, Before: before, Flags: flags | events.SentRST, Stack: stack}
	}
	done := func(before events.State, flags events.Flags, errno int32) events.Event {
		return events.Event{Kind: events.KindDone, Before: before, After: events.Close, Flags: flags, SockErr: errno}
	}
	userTimeout := func(ev events.Event) events.Event { ev.UserTimeoutMS = 700; return ev }
	checkEnds(t, []endCase{
		{"keepalive", reset(events.Established, 0, "tcp_send_active_reset", "tcp_keepalive_timer"), events.AbortKeepalive},
		{"keepalive, part of the function", reset(events.CloseWait, 0, "tcp_keepalive_timer.part.0"), events.AbortKeepalive},
		{"keepalive with a user timeout", userTimeout(reset(events.Established, 0, "tcp_keepalive_timer")),
			events.AbortKeepaliveTimeout},
		{"keepalive of an MPTCP subflow", reset(events.Established, events.MPTCP|events.KeepAlive, "tcp_keepalive_timer"),
			events.AbortKeepalive},
		{"memory, MPTCP subflow", reset(events.LastAck, orphan|events.MPTCP, "tcp_out_of_resources"), events.AbortOrphanOOM},
		{"no stack, FIN_WAIT2", reset(events.FinWait2, orphan), events.AbortFINWait2},
		{"FIN_WAIT2 over", reset(events.FinWait2, orphan, "tcp_keepalive_timer"), events.AbortFINWait2},
		{"memory", reset(events.FinWait1, orphan, "tcp_out_of_resources", "tcp_write_timeout"), events.AbortOrphanOOM},
		{"memory, no stack", reset(events.LastAck, orphan), events.AbortOrphanOOM},
		{"memory, no RST", events.Event{Kind: events.KindDone, Before: events.FinWait1, After: events.Close, Flags: orphan,
			Stack: []string{"tcp_done", "tcp_out_of_resources", "tcp_retransmit_timer", "tcp_write_timer"}},
			events.AbortOrphanOOM},
		{"user timeout", userTimeout(done(events.Established, 0, etimedout)), events.AbortUserTimeout},
		{"error read by the application", events.Event{
			Kind: events.KindDone, Before: events.Established, Stack: []string{"tcp_done", "tcp_write_timer"},
		}, events.AbortRetransTimeout},
		{"SYN", done(events.SynSent, 0, etimedout), events.AbortRetransTimeout},
		{"SYN, though a user timeout is set", userTimeout(done(events.SynSent, 0, etimedout)), events.AbortRetransTimeout},
		{"data", done(events.Established, 0, etimedout), events.AbortRetransTimeout},
		{"orphan", done(events.LastAck, orphan, etimedout), events.AbortOrphanRetries},
		{"SYN-ACK", done(events.SynRecv, 0, etimedout), events.AbortSynAckTimeout},
		{"SYN, refused by ICMP in between", events.Event{Kind: events.KindDone, Before: events.SynSent, After: events.Close,
			SockErr: econnrefused, Stack: []string{"tcp_done", "tcp_write_timer"}}, events.AbortRetransTimeout},
		{"ICMP on the way: host", done(events.Established, 0, 113), events.AbortRetransTimeout},
		{"ICMP on the way: port", done(events.Established, 0, econnrefused), events.AbortRetransTimeout},
		{"ICMP on the way, peer closed", done(events.CloseWait, 0, econnreset), events.AbortRetransTimeout},
	}, events.TriggerTimer, func(ev *events.Event) { ev.Task.Comm = "innocent" })
}

// A timer sends its RST before it ends the socket, which has the error. What
// it ran on is not its actor, even with a task's name in the event.
func TestTimerJoins(t *testing.T) {
	reset := events.Event{
		Kind: events.KindReset, Sock: 3, Before: events.Established, Flags: events.SentRST | events.KeepAlive,
	}
	done := events.Event{
		Kind: events.KindDone, Sock: 3, MonoNS: 9, Before: events.Established, After: events.Close,
		SockErr: etimedout,
	}
	endings, unexplained := conclude(reset, done)
	if len(endings) != 1 || unexplained != 0 || endings[0].Path != events.AbortKeepalive || !endings[0].RST {
		t.Errorf("no stack: %+v, %d unexplained", endings, unexplained)
	}
	reset.Flags |= events.MPTCP
	if endings, _ = conclude(reset, done); len(endings) != 1 || endings[0].Path != events.AbortKeepalive {
		t.Errorf("no stack, MPTCP subflow: %+v", endings)
	}
	done.Sock = 4
	reset.Flags &^= events.MPTCP
	if endings, unexplained = conclude(reset, done); len(endings) != 1 || unexplained != 1 || endings[0].RST {
		t.Errorf("of two sockets: %+v, %d unexplained", endings, unexplained)
	}
}

func TestReplyVerdicts(t *testing.T) {
	checkEnds(t, []endCase{
		{"no socket", events.Event{}, events.ReplyNoSocket},
		{"TIME_WAIT", events.Event{Before: events.TimeWait}, events.ReplyTimeWait},
		{"listener", events.Event{Before: events.Listen, KernelReason: "TCP_FLAGS"}, events.ReplyListenACK},
		{"listener, no reason and no stack", events.Event{Before: events.Listen}, events.ReplyListenACK},
		{"overflow, by the reason", events.Event{
			Before: events.Listen, KernelReason: "INVALID_SYN", SegmentFlags: thACK,
		}, events.ReplyOverflow},
		{"overflow, by the stack", events.Event{
			Before: events.Listen, Stack: []string{"tcp_v4_send_reset", "tcp_check_req"}, SegmentFlags: thACK,
		}, events.ReplyOverflow},
		{"the stack goes before the reason", events.Event{
			Before: events.Listen, KernelReason: "INVALID_SYN", Stack: []string{"tcp_v4_do_rcv"},
			SegmentFlags: thACK,
		}, events.ReplyListenACK},
		{"SYN in the handshake", events.Event{
			Before: events.Listen, Stack: []string{"tcp_check_req"}, SegmentFlags: thSYN,
		}, events.ReplyEmbryonic},
		{"a request", events.Event{Before: events.NewSynRecv}, events.ReplyEmbryonic},
		{"connecting", events.Event{Before: events.SynSent}, events.ReplySynSentBadACK},
		{"handshake", events.Event{Before: events.SynRecv}, events.ReplySynRecvBadACK},
		{"MPTCP", events.Event{Before: events.Listen, KernelReason: "MPTCP_RST_EMPTCP"}, events.ReplyMPTCP},
		{"FIN not acknowledged before", events.Event{
			Before: events.Close, After: events.Close, Flags: orphan,
		}, events.ReplyFINWait1OOO},
		{"whole socket", events.Event{
			Before: events.Close, After: events.Close, Flags: orphan, SockErr: epipe,
		}, events.ReplyAfterClose},
		{"whole socket, linger2", events.Event{
			Before: events.Close, After: events.Close, Flags: orphan, Linger2Jiffies: -1, SockErr: epipe,
		}, events.ReplyAfterClose},
		{"linger2", events.Event{
			Before: events.Close, After: events.Close, Flags: orphan, Linger2Jiffies: -1,
		}, events.CloseRSTLinger2Late},
		{"close(2) waits under SO_LINGER", events.Event{
			Before: events.FinWait1, After: events.Close, Flags: events.FileClosing | events.LingerOn, SockErr: econnreset,
		}, events.ReplyAfterClose},
		{"file open", events.Event{Before: events.Close, After: events.Close, SockErr: econnreset}, events.ShutdownData},
	}, events.TriggerSegment, func(ev *events.Event) {
		ev.Kind = events.KindReply
		ev.Flags |= events.SentRST
	})
}

func TestReceivedVerdicts(t *testing.T) {
	done := func(before events.State, errno int32, stack ...string) events.Event {
		return events.Event{Kind: events.KindDone, Before: before, After: events.Close, SockErr: errno, Stack: stack}
	}
	checkEnds(t, []endCase{
		{"refused", done(events.SynSent, econnrefused, "tcp_done", "tcp_reset", "tcp_rcv_state_process"), events.RecvRST},
		{"established", done(events.Established, econnreset), events.RecvRST},
		{"peer closed", done(events.CloseWait, epipe), events.RecvRST},
		{"ICMP: refused", done(events.SynSent, econnrefused, "tcp_done", "tcp_v4_err", "icmp_unreach"), events.RecvICMP},
		{"ICMP: host", done(events.SynSent, 113, "tcp_v6_err.cold"), events.RecvICMP},
		{"error read by the application", done(events.Established, 0, "tcp_done", "tcp_reset"), events.RecvRST},
		{"FIN", events.Event{Kind: events.KindPeerFIN, Before: events.Established, After: events.CloseWait}, events.RecvFIN},
	}, events.TriggerSegment, func(ev *events.Event) {
		// From the backlog of a task, which did not cause it.
		ev.Flags |= events.TaskContext
	})
}

// After the peer's FIN a RST changes nothing for recv(2), which returns what was received and then 0, as before.
func TestCauseOfReset(t *testing.T) {
	for _, tt := range []struct {
		before events.State
		errno  int32
		unread uint32
		want   string
	}{
		{events.Established, econnreset, 0, "ECONNRESET"},
		{events.Established, econnreset, 9, "ECONNRESET; 9 B received earlier can still be read"},
		{
			events.FinWait2, econnreset, 9,
			"in FIN_WAIT2; the application gets ECONNRESET; 9 B received earlier can still be read",
		},
		{events.CloseWait, epipe, 0, "in CLOSE_WAIT; recv(2) returns 0, only a write fails (EPIPE)"},
		{
			events.CloseWait, epipe, 9,
			"in CLOSE_WAIT; after 9 B that can still be read, recv(2) returns 0, only a write fails (EPIPE)",
		},
		{events.LastAck, econnreset, 0, "in LAST_ACK; recv(2) returns 0, only a write fails (ECONNRESET)"},
		{
			events.Closing, econnreset, 9,
			"in CLOSING; after 9 B that can still be read, recv(2) returns 0, only a write fails (ECONNRESET)",
		},
	} {
		endings, _ := conclude(events.Event{
			Kind: events.KindDone, Before: tt.before, After: events.Close, SockErr: tt.errno, UnreadBytes: tt.unread,
		})
		if len(endings) != 1 || endings[0].Cause != tt.want {
			t.Errorf("%s: %+v, want %s", tt.before, endings, tt.want)
		}
	}
}

// SOCK_DESTROY says what the application gets, which is nothing if it has closed the socket.
func TestCauseOfKill(t *testing.T) {
	const lingering = events.FileClosing | events.LingerOn
	for _, tt := range []struct {
		before events.State
		flags  events.Flags
		unread uint32
		want   string
	}{
		{events.Established, 0, 0, "in ESTABLISHED; the application gets ECONNABORTED"},
		{events.CloseWait, 0, 0, "in CLOSE_WAIT; recv(2) returns 0, only a write fails (ECONNABORTED)"},
		{
			events.CloseWait, 0, 9,
			"in CLOSE_WAIT; after 9 B that can still be read, recv(2) returns 0, only a write fails (ECONNABORTED)",
		},
		{events.LastAck, 0, 0, "in LAST_ACK; recv(2) returns 0, only a write fails (ECONNABORTED)"},
		{events.FinWait2, events.Orphan, 0, "in FIN_WAIT2"},
		{events.FinWait1, lingering, 0, "in FIN_WAIT1"},
		{events.FinWait1, events.LingerOn, 0, "in FIN_WAIT1; the application gets ECONNABORTED"},
	} {
		endings, _ := conclude(events.Event{
			Kind: events.KindAbort, Before: tt.before, After: events.Close,
			Flags: inTask | events.SentRST | tt.flags, SockErr: econnaborted, UnreadBytes: tt.unread,
		})
		if want := "SOCK_DESTROY (ss -K) " + tt.want; len(endings) != 1 || endings[0].Cause != want {
			t.Errorf("%s %v: %+v, want %s", tt.before, tt.flags, endings, want)
		}
	}
}

// lingering returns a close of a socket in CLOSE_WAIT that waits under SO_LINGER, and how SOCK_DESTROY ends it
// meanwhile.
func lingering() (closing, kill events.Event) {
	const flags = events.LingerOn | events.FileClosing | events.TaskContext
	closing = events.Event{
		Kind: events.KindClose, Sock: 7, MonoNS: 5e6, Before: events.CloseWait, After: events.LastAck,
		Flags: inTask | events.SentFIN | flags, Task: events.Task{PID: 42, TID: 43, Comm: "server"}, LingerJiffies: 1250,
	}
	kill = events.Event{
		Kind: events.KindAbort, Sock: 7, MonoNS: 9e6, Before: events.LastAck, After: events.Close,
		Flags: flags, SockErr: econnaborted, Task: events.Task{PID: 9, TID: 9, Comm: "ss"},
	}
	return closing, kill
}

// A RST while close(2) waits under SO_LINGER reaches no application, and its owner is the process in that call.
func TestResetWhileLingering(t *testing.T) {
	closing, reset := lingering()
	closing.Flags |= events.ReturnUnseen
	over := events.Event{Kind: events.KindWaitOver, Sock: 7, MonoNS: 9e6, After: events.Close, OutputLeft: 1}
	reset.Kind, reset.SockErr, reset.Flags = events.KindDone, econnreset, reset.Flags&^events.TaskContext
	endings, _ := conclude(closing, over, reset)
	e := endingOf(t, endings, events.RecvRST)
	if e.Owner == nil || e.Owner.PID != 42 || e.OwnerBy != events.OwnerByCall ||
		!strings.Contains(e.Cause, "during close(2): no application learns of it") {
		t.Errorf("owner %v by %s, %s", e.Owner, e.OwnerBy, e.Cause)
	}
}

// The record of a kill while close(2) waits comes before the record of the close or after it. Both say the same, and
// the close is what answered the FIN of the peer.
func TestKillWhileLingering(t *testing.T) {
	closing, kill := lingering()
	fin := events.Event{
		Kind: events.KindPeerFIN, Sock: 7, MonoNS: 2e6, Before: events.Established, After: events.CloseWait,
	}
	for _, all := range [][]events.Event{{fin, closing, kill}, {fin, kill, closing}} {
		endings, _ := conclude(all...)
		if e := endingOf(t, endings, events.AbortDiag); e.Owner == nil || e.Owner.PID != 42 ||
			e.OwnerBy != events.OwnerByCall || e.Evidence.PeerFINAgo != 0 {
			t.Errorf("%s first: owner %v by %s, FIN %s ago", all[1].Kind, e.Owner, e.OwnerBy, e.Evidence.PeerFINAgo)
		}
		for _, e := range endings {
			if e.Path.Family() == "close" && e.Evidence.PeerFINAgo != 3*time.Millisecond {
				t.Errorf("%s first: %s, FIN %s ago", all[1].Kind, e.Path, e.Evidence.PeerFINAgo)
			}
		}
	}
}

func endingOf(t *testing.T, endings []events.Ending, path events.Path) *events.Ending {
	t.Helper()
	for i := range endings {
		if endings[i].Path == path {
			return &endings[i]
		}
	}
	t.Fatalf("no %s in %+v", path, endings)
	return nil
}

// MPTCP resets a subflow and then takes it down, by whichever call.
func TestMPTCPReset(t *testing.T) {
	reset := events.Event{
		Kind: events.KindReset, Sock: 3, Before: events.Established,
		Flags: inTask | events.SentRST | events.MPTCP, UnreadBytes: 70,
	}
	for _, kind := range []events.Kind{events.KindDisconnect, events.KindClose} {
		down := events.Event{
			Kind: kind, Sock: 3, MonoNS: 9, Before: events.Established, After: events.Close,
			Flags: inTask | events.MPTCP,
		}
		endings, _ := conclude(reset, down)
		if len(endings) != 1 || endings[0].Path != events.AbortMPTCP || !strings.Contains(endings[0].Cause, "70 B unread") {
			t.Errorf("%v: %+v", kind, endings)
		}
		down.Sock = 4
		if endings, _ = conclude(reset, down); len(endings) != 2 {
			t.Errorf("%v of another socket: %+v", kind, endings)
		}
	}
}

// The close of the connection is named only if it was one: MPTCP also resets a single subflow.
func TestMPTCPUnread(t *testing.T) {
	for want, flags := range map[string]events.Flags{
		"MPTCP resets this subflow; its connection was closed with 57 B unread": inTask | events.FileClosing,
		"MPTCP resets this subflow; 57 B unread":                                inTask,
	} {
		endings, _ := conclude(events.Event{
			Kind: events.KindReset, Before: events.Established, UnreadBytes: 57,
			Flags: flags | events.SentRST | events.MPTCP,
		})
		if len(endings) != 1 || endings[0].Cause != want {
			t.Errorf("%+v, want %s", endings, want)
		}
	}
}

// What the end of a network namespace takes with it is not a timer's doing, nor
// that of the kernel thread that cleans up.
func TestNamespaceGone(t *testing.T) {
	for want, ev := range map[events.Path]events.Event{
		events.AbortNetns: {
			Kind: events.KindDone, Before: events.FinWait1, After: events.Close,
			Flags: orphan | events.NetnsGone,
		},
		events.CloseSilentNetns: {
			Kind: events.KindClose, Before: events.FinWait2, After: events.Close, AtReturn: events.Close,
			Flags: inTask | events.NetnsGone, TaskFlags: pfKthread,
		},
	} {
		endings, _ := conclude(ev)
		if len(endings) != 1 || endings[0].Path != want || endings[0].Trigger != events.TriggerNetns {
			t.Errorf("%+v, want %s", endings, want)
		}
	}
}
