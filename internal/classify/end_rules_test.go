package classify

import (
	"strings"
	"testing"

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
			if nobody := by == events.TriggerSegment || by == events.TriggerTimer; nobody != (e.Actor == nil) {
				t.Errorf("actor %v", e.Actor)
			}
		})
	}
}

func TestDisconnectVerdicts(t *testing.T) {
	checkEnds(t, []endCase{
		{"established", events.Event{Before: events.Established, Flags: events.SentRST}, DisconnectRST},
		{"after the peer's FIN", events.Event{Before: events.CloseWait, Flags: events.SentRST}, DisconnectRST},
		{"both FINs sent, output unsent", events.Event{Before: events.LastAck, Flags: events.SentRST, UnsentBytes: 1}, DisconnectRSTUnsent},
		{"both FINs sent", events.Event{Before: events.Closing}, DisconnectSilent},
		{"connecting", events.Event{Before: events.SynSent}, DisconnectSilent},
		{"repair", events.Event{Before: events.Established, Flags: events.Repair}, DisconnectSilent},
		{"listener", events.Event{Before: events.Listen, ChildrenReset: 1}, DisconnectListen},
	}, events.TriggerConnect, func(ev *events.Event) {
		ev.Kind, ev.Syscall = events.KindDisconnect, "connect"
		ev.Flags |= inTask | events.Disconnected
	})
}

// In tracepoint mode connect(2) and sock_diag are told from shutdown(2) by the
// system call.
func TestDisconnectByStates(t *testing.T) {
	for syscall, want := range map[string]events.Path{
		"connect": DisconnectListen, "sendto": AbortDiagListen, "sendmsg": AbortDiagListen, "shutdown": ShutdownListen,
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
		if endings, _ := conclude(child); endings[0].Path != CloseRSTChild || endings[0].Trigger != want {
			t.Errorf("child, %s: %s by %s, want %s", syscall, endings[0].Path, endings[0].Trigger, want)
		}
	}
}

// The end of an MPTCP listener is not seen in fentry and kprobe mode, and what it
// does to its connections names nobody.
func TestChildOfUnseenListener(t *testing.T) {
	e, _ := conclude(events.Event{Kind: events.KindReset, Before: events.Close, Flags: events.SentRST,
		Stack: []string{"tcp_send_active_reset", "tcp_disconnect", "inet_csk_listen_stop", "mptcp_close"}})
	if len(e) != 1 || e[0].Path != CloseRSTChild || e[0].Trigger != events.TriggerClose || e[0].Actor != nil {
		t.Errorf("%+v", e)
	}
}

func TestAbortVerdicts(t *testing.T) {
	checkEnds(t, []endCase{
		{"established", events.Event{Before: events.Established, Flags: events.SentRST}, AbortDiag},
		{"connecting", events.Event{Before: events.SynSent}, AbortDiag},
		{"listener", events.Event{Before: events.Listen, ChildrenReset: 2}, AbortDiagListen},
	}, events.TriggerNetlink, func(ev *events.Event) {
		ev.Kind, ev.Syscall, ev.SockErr = events.KindAbort, "sendto", econnaborted
		ev.Flags |= inTask
	})
	// By states: a RST, then the end with its error. Both are one ending.
	reset := events.Event{Kind: events.KindReset, Sock: 3, Before: events.Established, Flags: inTask | events.SentRST}
	done := events.Event{Kind: events.KindDone, Sock: 3, MonoNS: 9, Before: events.Established, After: events.Close, Flags: inTask, SockErr: econnaborted}
	endings, unexplained := conclude(reset, done)
	if len(endings) != 1 || unexplained != 0 || endings[0].Path != AbortDiag || endings[0].Actor == nil || endings[0].After != events.Close {
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
		{"keepalive", reset(events.Established, 0, "tcp_send_active_reset", "tcp_keepalive_timer"), AbortKeepalive},
		{"keepalive, part of the function", reset(events.CloseWait, 0, "tcp_keepalive_timer.part.0"), AbortKeepalive},
		{"keepalive with a user timeout", userTimeout(reset(events.Established, 0, "tcp_keepalive_timer")), AbortKeepaliveTimeout},
		{"no stack, FIN_WAIT2", reset(events.FinWait2, orphan), AbortFINWait2},
		{"FIN_WAIT2 over", reset(events.FinWait2, orphan, "tcp_keepalive_timer"), AbortFINWait2},
		{"memory", reset(events.FinWait1, orphan, "tcp_out_of_resources", "tcp_write_timeout"), AbortOrphanOOM},
		{"memory, no stack", reset(events.LastAck, orphan), AbortOrphanOOM},
		{"user timeout", userTimeout(done(events.Established, 0, etimedout)), AbortUserTimeout},
		{"error taken away by the application", events.Event{Kind: events.KindDone, Before: events.Established, Stack: []string{"tcp_done", "tcp_write_timer"}}, AbortRetransTimeout},
		{"SYN", done(events.SynSent, 0, etimedout), AbortRetransTimeout},
		{"SYN, though a user timeout is set", userTimeout(done(events.SynSent, 0, etimedout)), AbortRetransTimeout},
		{"data", done(events.Established, 0, etimedout), AbortRetransTimeout},
		{"orphan", done(events.LastAck, orphan, etimedout), AbortOrphanRetries},
		{"SYN-ACK", done(events.SynRecv, 0, etimedout), AbortSynAckTimeout},
		{"ICMP on the way: host", done(events.Established, 0, 113), AbortRetransTimeout},
		{"ICMP on the way: port", done(events.Established, 0, econnrefused), AbortRetransTimeout},
		{"ICMP on the way, peer closed", done(events.CloseWait, 0, econnreset), AbortRetransTimeout},
	}, events.TriggerTimer, func(ev *events.Event) { ev.Task.Comm = "innocent" })
}

// A timer sends its RST before it ends the socket, which tells the error. What
// it ran on is not its actor, even with a task's name in the event.
func TestTimerJoins(t *testing.T) {
	reset := events.Event{Kind: events.KindReset, Sock: 3, Before: events.Established, Flags: events.SentRST | events.KeepAlive}
	done := events.Event{Kind: events.KindDone, Sock: 3, MonoNS: 9, Before: events.Established, After: events.Close, SockErr: etimedout}
	endings, unexplained := conclude(reset, done)
	if len(endings) != 1 || unexplained != 0 || endings[0].Path != AbortKeepalive || !endings[0].RST {
		t.Errorf("no stack: %+v, %d unexplained", endings, unexplained)
	}
	done.Sock = 4
	if endings, unexplained = conclude(reset, done); len(endings) != 1 || unexplained != 1 || endings[0].RST {
		t.Errorf("of two sockets: %+v, %d unexplained", endings, unexplained)
	}
}

func TestReplyVerdicts(t *testing.T) {
	checkEnds(t, []endCase{
		{"no socket", events.Event{}, ReplyNoSocket},
		{"TIME_WAIT", events.Event{Before: events.TimeWait}, ReplyTimeWait},
		{"listener", events.Event{Before: events.Listen, KernelReason: "TCP_FLAGS"}, ReplyListenACK},
		{"listener, no reason and no stack", events.Event{Before: events.Listen}, ReplyListenACK},
		{"overflow, by the reason", events.Event{Before: events.Listen, KernelReason: "INVALID_SYN", SegmentFlags: thACK}, ReplyOverflow},
		{"overflow, by the stack", events.Event{Before: events.Listen, Stack: []string{"tcp_v4_send_reset", "tcp_check_req"}, SegmentFlags: thACK}, ReplyOverflow},
		{"the stack goes before the reason", events.Event{Before: events.Listen, KernelReason: "INVALID_SYN", Stack: []string{"tcp_v4_do_rcv"}, SegmentFlags: thACK}, ReplyListenACK},
		{"SYN in the handshake", events.Event{Before: events.Listen, Stack: []string{"tcp_check_req"}, SegmentFlags: thSYN}, ReplyEmbryonic},
		{"a request", events.Event{Before: events.NewSynRecv}, ReplyEmbryonic},
		{"connecting", events.Event{Before: events.SynSent}, ReplySynSentBadACK},
		{"handshake", events.Event{Before: events.SynRecv}, ReplySynRecvBadACK},
		{"MPTCP", events.Event{Before: events.Listen, KernelReason: "MPTCP_RST_EMPTCP"}, ReplyMPTCP},
		{"FIN not acknowledged before", events.Event{Before: events.Close, After: events.Close, Flags: orphan}, ReplyFINWait1OOO},
		{"whole socket", events.Event{Before: events.Close, After: events.Close, Flags: orphan, SockErr: epipe}, ReplyAfterClose},
		{"whole socket, linger2", events.Event{Before: events.Close, After: events.Close, Flags: orphan, Linger2Jiffies: -1, SockErr: epipe}, ReplyAfterClose},
		{"linger2", events.Event{Before: events.Close, After: events.Close, Flags: orphan, Linger2Jiffies: -1}, CloseRSTLinger2Late},
		{"file open", events.Event{Before: events.Close, After: events.Close, SockErr: econnreset}, ShutdownData},
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
		{"refused", done(events.SynSent, econnrefused, "tcp_done", "tcp_reset", "tcp_rcv_state_process"), RecvRST},
		{"established", done(events.Established, econnreset), RecvRST},
		{"peer closed", done(events.CloseWait, epipe), RecvRST},
		{"ICMP: refused", done(events.SynSent, econnrefused, "tcp_done", "tcp_v4_err", "icmp_unreach"), RecvICMP},
		{"ICMP: host", done(events.SynSent, 113, "tcp_v6_err.cold"), RecvICMP},
		{"error taken away by the application", done(events.Established, 0, "tcp_done", "tcp_reset"), RecvRST},
		{"FIN", events.Event{Kind: events.KindPeerFIN, Before: events.Established, After: events.CloseWait}, RecvFIN},
	}, events.TriggerSegment, func(ev *events.Event) {
		// From the backlog of a task, which is still nobody's call.
		ev.Flags |= events.TaskContext
	})
}

// MPTCP resets a subflow and then takes it down, by whichever call.
func TestMPTCPReset(t *testing.T) {
	reset := events.Event{Kind: events.KindReset, Sock: 3, Before: events.Established, Flags: inTask | events.SentRST | events.MPTCP, UnreadBytes: 70}
	for _, kind := range []events.Kind{events.KindDisconnect, events.KindClose} {
		down := events.Event{Kind: kind, Sock: 3, MonoNS: 9, Before: events.Established, After: events.Close, Flags: inTask | events.MPTCP}
		endings, _ := conclude(reset, down)
		if len(endings) != 1 || endings[0].Path != AbortMPTCP || !strings.Contains(endings[0].Cause, "70 B unread") {
			t.Errorf("%v: %+v", kind, endings)
		}
		down.Sock = 4
		if endings, _ = conclude(reset, down); len(endings) != 2 {
			t.Errorf("%v of another socket: %+v", kind, endings)
		}
	}
}

// What is held for a second fact comes out in time, and once.
func TestHeldEnds(t *testing.T) {
	for _, ev := range []events.Event{
		{Kind: events.KindReset, Sock: 3, Before: events.FinWait2, Flags: events.SentRST | orphan},
		{Kind: events.KindDone, Sock: 3, Before: events.Established, SockErr: econnreset},
	} {
		c, n := New(testHeader), 0
		count := func(*events.Ending) { n++ }
		c.Push(&ev, count)
		patience := itsEnd
		if ev.Kind == events.KindDone {
			patience = peersCall
		}
		if c.Advance(uint64(patience), count); n != 0 {
			t.Errorf("%v: told before a second fact could come", ev.Kind)
		}
		c.Advance(uint64(patience)+1, count)
		c.Flush(count)
		if n != 1 {
			t.Errorf("%v: told %d times", ev.Kind, n)
		}
	}
}

// What the end of a network namespace takes with it is not a timer's doing, nor
// that of the kernel thread that cleans up.
func TestNamespaceGone(t *testing.T) {
	for want, ev := range map[events.Path]events.Event{
		AbortNetns:       {Kind: events.KindDone, Before: events.FinWait1, After: events.Close, Flags: orphan | events.NetnsGone},
		CloseSilentNetns: {Kind: events.KindClose, Before: events.FinWait2, After: events.Close, AtReturn: events.Close, Flags: inTask | events.NetnsGone, TaskFlags: pfKthread},
	} {
		endings, _ := conclude(ev)
		if len(endings) != 1 || endings[0].Path != want || endings[0].Trigger != events.TriggerNetns {
			t.Errorf("%+v, want %s", endings, want)
		}
	}
}
