package classify

import (
	"slices"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// The rules for what ends a connection outside of the application's close and
// shutdown: a disconnect, somebody else, a timer, a segment.

// Errors that are pending when a socket ends: include/uapi/asm-generic.
const (
	epipe        = 32
	econnaborted = 103
	econnreset   = 104
	etimedout    = 110
	econnrefused = 111
)

// TCP flags of a segment.
const (
	thSYN = 0x02
	thACK = 0x10
)

// calledBy tells whether the kernel stack has a function, and whether a stack
// was taken at all.
func (f *fact) calledBy(functions ...string) (is, known bool) {
	for _, name := range f.Stack {
		base, _, _ := strings.Cut(name, ".") // .isra, .constprop, .part, .cold
		if slices.Contains(functions, base) {
			return true, true
		}
	}
	return false, len(f.Stack) > 0
}

// from tells whether a function of the stack decided, or, where no stack could
// be read, whether the state of the socket says so.
func (f *fact) from(byState bool, functions ...string) bool {
	if is, known := f.calledBy(functions...); known {
		return is
	}
	f.byState = f.byState || byState
	return byState
}

var finRules = []rule{
	{
		path: ShutdownDeferred, title: "shutdown → FIN", by: events.TriggerSegment, when: func(f *fact) bool {
			return !f.sent(events.TaskContext) && !f.sent(events.MPTCP)
		},
		why: func(p phrase, f *fact) phrase {
			return p.text("handshake finished; the FIN that an earlier shutdown(2) deferred goes out now")
		},
	},
	{
		path: CloseFINActive, title: "close → FIN, MPTCP",
		when: func(f *fact) bool { return f.sent(events.MPTCP) && f.Before == events.Established },
		why:  func(p phrase, f *fact) phrase { return p.text("MPTCP closes this subflow, ").states(f.Before, f.After) },
	},
	{
		path: CloseFINPassive, title: "close → FIN, MPTCP",
		when: func(f *fact) bool { return f.sent(events.MPTCP) && f.Before == events.CloseWait },
		why:  func(p phrase, f *fact) phrase { return p.text("MPTCP closes this subflow, ").states(f.Before, f.After) },
	},
}

var disconnectRules = []rule{
	{
		path: DisconnectListen, title: "disconnect, listener", when: func(f *fact) bool { return f.Before == events.Listen },
		why: func(p phrase, f *fact) phrase {
			return listenerGone(p.text("connect(AF_UNSPEC) on a listener: it stops listening"), f)
		},
	},
	{
		path: AbortMPTCP, title: "MPTCP → RST",
		when: func(f *fact) bool { return f.sent(events.MPTCP | events.SentRST) }, why: mptcpReset,
	},
	{
		path: DisconnectRSTUnsent, title: "disconnect → RST",
		when: func(f *fact) bool { return f.sent(events.SentRST) && f.before(events.Closing, events.LastAck) },
		why: func(p phrase, f *fact) phrase {
			return p.text("connect(AF_UNSPEC) in ").text(f.Before.String()).text(" with output unsent").lost(f.Event)
		},
	},
	{
		path: DisconnectRST, title: "disconnect → RST", when: func(f *fact) bool { return f.sent(events.SentRST) },
		why: func(p phrase, f *fact) phrase {
			return p.text("connect(AF_UNSPEC) in ").text(f.Before.String()).lost(f.Event)
		},
	},
	{
		path: DisconnectSilent, title: "disconnect, silent", when: always,
		why: func(p phrase, f *fact) phrase {
			return p.text("connect(AF_UNSPEC) in ").text(f.Before.String()).text("; nothing is sent").lost(f.Event)
		},
	},
}

var abortRules = []rule{
	{
		path: AbortDiagListen, title: "killed, listener", by: events.TriggerNetlink, when: func(f *fact) bool { return f.Before == events.Listen },
		why: func(p phrase, f *fact) phrase {
			return listenerGone(p.text("SOCK_DESTROY (ss -K) on a listener"), f)
		},
	},
	{
		path: AbortDiag, title: "killed → RST", by: events.TriggerNetlink, when: func(f *fact) bool { return f.sent(events.SentRST) },
		why: func(p phrase, f *fact) phrase {
			return p.text("SOCK_DESTROY (ss -K) in ").text(f.Before.String()).text("; the application gets ECONNABORTED").lost(f.Event)
		},
	},
	{
		path: AbortDiag, title: "killed, silent", by: events.TriggerNetlink, when: always,
		why: func(p phrase, f *fact) phrase {
			return p.text("SOCK_DESTROY (ss -K) in ").text(f.Before.String()).text("; nothing to reset")
		},
	},
}

var resetRules = []rule{
	// Inside a close that was told before, with its FIN.
	{
		path: CloseRSTLinger2, title: "close → RST",
		when: func(f *fact) bool {
			return f.sent(events.InReportedCall) && f.Linger2Jiffies < 0 && f.before(events.FinWait2)
		},
		why: forbidsFinWait2,
	},
	{
		path: CloseRSTOOM, title: "close → RST", when: func(f *fact) bool { return f.sent(events.InReportedCall) },
		why: func(p phrase, f *fact) phrase { return outOfMemory(p).lost(f.Event) },
	},
	{
		path: CloseRSTChild, title: "close → RST",
		when: func(f *fact) bool { return f.Listener != 0 || f.from(false, "inet_csk_listen_stop") },
		why: func(p phrase, f *fact) phrase {
			p = p.text("connection waited in the accept queue of a listener that is being closed")
			if f.UnreadBytes > 0 {
				p = p.text("; ").bytes(uint64(f.UnreadBytes)).text(" received and never read")
			}
			return p
		},
	},
	{
		path: AbortMPTCP, title: "MPTCP → RST", when: func(f *fact) bool { return f.sent(events.MPTCP) }, why: mptcpReset,
	},
	{
		path: DisconnectRST, title: "disconnect → RST",
		when: func(f *fact) bool { return disconnectUnseen(f) && f.sent(events.TaskContext) },
		why:  func(p phrase, f *fact) phrase { return p.text("connect(AF_UNSPEC)") },
	},
	{
		path: AbortDiag, title: "killed → RST", by: events.TriggerNetlink,
		when: func(f *fact) bool {
			return f.sent(events.TaskContext) && (f.SockErr == econnaborted || f.from(false, "tcp_abort"))
		},
		why: func(p phrase, f *fact) phrase {
			return p.text("SOCK_DESTROY (ss -K) in ").text(f.Before.String()).text("; the application gets ECONNABORTED").lost(f.Event)
		},
	},
	{
		path: AbortFINWait2, title: "timer → RST", by: events.TriggerTimer,
		when: func(f *fact) bool {
			return f.sent(events.Orphan) && f.Before == events.FinWait2 && f.from(true, "tcp_keepalive_timer")
		},
		why: func(p phrase, f *fact) phrase {
			return p.text("closed, and the peer's FIN did not come within tcp_fin_timeout or TCP_LINGER2")
		},
	},
	{
		path: AbortKeepaliveTimeout, title: "timer → RST", by: events.TriggerTimer,
		when: func(f *fact) bool { return keepalive(f) && f.UserTimeoutMS > 0 },
		why: func(p phrase, f *fact) phrase {
			p = p.text("keepalive: ").count(uint64(f.Probes), "probe").text(" unanswered and TCP_USER_TIMEOUT of ")
			return p.number(uint64(f.UserTimeoutMS)).text(" ms over").lost(f.Event)
		},
	},
	{
		path: AbortKeepalive, title: "timer → RST", by: events.TriggerTimer, when: keepalive,
		why: func(p phrase, f *fact) phrase {
			return p.text("keepalive: ").count(uint64(f.Probes), "probe").text(" unanswered; the peer counts as gone").lost(f.Event)
		},
	},
	{
		path: AbortOrphanOOM, title: "timer → RST", by: events.TriggerTimer,
		when: func(f *fact) bool {
			return f.sent(events.Orphan) && f.from(f.before(events.FinWait1, events.Closing, events.LastAck), "tcp_out_of_resources")
		},
		why: func(p phrase, f *fact) phrase {
			return p.text("closed, output not acknowledged, and too many orphaned sockets or TCP out of memory").lost(f.Event)
		},
	},
	{
		path: AbortAcceptRace, title: "listener gone → RST", by: events.TriggerSegment,
		when: func(f *fact) bool {
			return f.Before == events.Close && !f.sent(events.TaskContext) && f.Inode == 0 &&
				f.from(f.ShutdownMask == 0, "inet_csk_reqsk_queue_add", "inet_child_forget")
		},
		why: func(p phrase, f *fact) phrase {
			return p.text("the handshake finished just when the listener closed")
		},
	},
}

// keepalive: tcp_keepalive_timer gave the peer up. It sends the RST before it
// sets the error, which comes with the tcp_done that follows.
func keepalive(f *fact) bool {
	return !f.sent(events.Orphan) && f.from(f.sent(events.KeepAlive) && f.SockErr == etimedout, "tcp_keepalive_timer")
}

func mptcpReset(p phrase, f *fact) phrase {
	p = p.text("MPTCP resets this subflow")
	if f.UnreadBytes > 0 {
		p = p.text("; ").bytes(uint64(f.UnreadBytes)).text(" unread")
	}
	return p.lost(f.Event)
}

var doneRules = []rule{
	{
		path: RecvICMP, title: "ICMP error", by: events.TriggerSegment,
		when: func(f *fact) bool {
			return f.SockErr != 0 && f.from(false, "tcp_v4_err", "tcp_v6_err", "icmp_rcv", "icmpv6_rcv", "tcp_req_err")
		},
		why: func(p phrase, f *fact) phrase {
			return p.text("an ICMP error ended the connection attempt: ").text(errno(f.SockErr))
		},
	},
	{
		path: RecvRST, title: "RST received", by: events.TriggerSegment, when: (*fact).wasReset,
		why: func(p phrase, f *fact) phrase {
			p = p.text("in ").text(f.Before.String()).text("; the application gets ").text(errno(f.SockErr))
			if f.UnreadBytes > 0 {
				p = p.text("; ").bytes(uint64(f.UnreadBytes)).text(" received before can still be read")
			}
			p = p.lost(f.Event)
			if f.peer != nil {
				p = p.text("; the other end, ").task(f.peer.actor).text(", did ").text(string(f.peer.path))
			}
			return p
		},
	},
	{
		path: AbortDiag, title: "killed, silent", by: events.TriggerNetlink, when: func(f *fact) bool { return f.SockErr == econnaborted },
		why: func(p phrase, f *fact) phrase {
			return p.text("SOCK_DESTROY (ss -K) in ").text(f.Before.String()).text("; nothing to reset")
		},
	},
	{
		path: AbortNetns, title: "namespace gone", by: events.TriggerNetns, when: func(f *fact) bool { return f.sent(events.NetnsGone) },
		why: func(p phrase, f *fact) phrase {
			return p.text("the network namespace is being torn down").lost(f.Event)
		},
	},
	{
		path: AbortSynAckTimeout, title: "timer, silent", by: events.TriggerTimer, when: func(f *fact) bool { return timedOut(f) && f.Before == events.SynRecv },
		why: func(p phrase, f *fact) phrase {
			return p.text("the SYN-ACK was never acknowledged")
		},
	},
	{
		path: AbortOrphanRetries, title: "timer, silent", by: events.TriggerTimer, when: func(f *fact) bool { return timedOut(f) && f.sent(events.Orphan) },
		why: func(p phrase, f *fact) phrase {
			return unanswered(p.text("closed, and the rest of the output was never acknowledged"), f)
		},
	},
	{
		path: AbortUserTimeout, title: "timer, silent", by: events.TriggerTimer,
		when: func(f *fact) bool { return timedOut(f) && f.UserTimeoutMS > 0 && f.Before != events.SynSent },
		why: func(p phrase, f *fact) phrase {
			return unanswered(p.text("TCP_USER_TIMEOUT of ").number(uint64(f.UserTimeoutMS)).text(" ms over"), f)
		},
	},
	{
		path: AbortRetransTimeout, title: "timer, silent", by: events.TriggerTimer, when: func(f *fact) bool { return timedOut(f) && f.Before == events.SynSent },
		why: func(p phrase, f *fact) phrase {
			return p.text("no answer to ").count(uint64(f.Retransmits)+1, "SYN")
		},
	},
	{
		path: AbortRetransTimeout, title: "timer, silent", by: events.TriggerTimer, when: timedOut,
		why: func(p phrase, f *fact) phrase { return unanswered(p.text("the peer does not acknowledge"), f) },
	},
}

// wasReset: the error is the one that tcp_reset gives in this state. A timer
// passes on any error that an ICMP message had reported before.
func (f *fact) wasReset() bool { return f.SockErr == resetError(f.Before) }

func resetError(before events.State) int32 {
	switch before {
	case events.SynSent:
		return econnrefused
	case events.CloseWait:
		return epipe
	}
	return econnreset
}

// restoreError: the kernel sets the error before it ends the socket, and the
// application may have taken it away in between (SO_ERROR). Who ended the
// socket tells what it was.
func (f *fact) restoreError() {
	if f.Kind != events.KindDone || f.SockErr != 0 {
		return
	}
	if reset, _ := f.calledBy("tcp_reset"); reset {
		f.SockErr = resetError(f.Before)
	}
	if timer, _ := f.calledBy("tcp_write_timer", "tcp_write_timer_handler", "tcp_retransmit_timer"); timer {
		f.SockErr = etimedout
	}
}

// timedOut: tcp_write_err, which passes on an ICMP error that came before.
func timedOut(f *fact) bool { return f.SockErr != 0 }

func unanswered(p phrase, f *fact) phrase {
	p = p.text("; ").count(uint64(f.Retransmits), "retransmission").text(" unanswered")
	if f.SockErr != etimedout {
		p = p.text(", ").text(errno(f.SockErr)).text(" reported on the way")
	}
	return p.lost(f.Event)
}

var replyRules = []rule{
	{
		path: ReplyMPTCP, title: "RST in reply", by: events.TriggerSegment, when: func(f *fact) bool { return strings.HasPrefix(f.KernelReason, "MPTCP_") },
		why: func(p phrase, f *fact) phrase { return p.text("MPTCP refuses the segment: ").text(f.KernelReason) },
	},
	{
		path: ReplyNoSocket, title: "RST in reply", by: events.TriggerSegment, when: func(f *fact) bool { return f.Before == events.StateUnknown },
		why: func(p phrase, f *fact) phrase {
			if f.SegmentFlags&(thSYN|thACK) == thSYN {
				return p.text("SYN to a port where nothing listens")
			}
			return afterEarlier(arrived(p, f), f, " for a connection that does not exist here")
		},
	},
	{
		path: ReplyTimeWait, title: "RST in reply", by: events.TriggerSegment, when: func(f *fact) bool { return f.Before == events.TimeWait },
		why: func(p phrase, f *fact) phrase {
			return afterEarlier(arrived(p, f), f, " after this side closed the connection")
		},
	},
	{
		path: ReplyOverflow, title: "RST in reply", by: events.TriggerSegment,
		when: func(f *fact) bool { return handshakeRefused(f) && f.SegmentFlags&thSYN == 0 },
		why: func(p phrase, f *fact) phrase {
			return p.text("accept queue full and tcp_abort_on_overflow set: the finished handshake is refused")
		},
	},
	{
		path: ReplyEmbryonic, title: "RST in reply", by: events.TriggerSegment,
		when: func(f *fact) bool { return f.Before == events.NewSynRecv || handshakeRefused(f) },
		why:  func(p phrase, f *fact) phrase { return p.text("a segment that does not fit the handshake in progress") },
	},
	{
		path: ReplyListenACK, title: "RST in reply", by: events.TriggerSegment, when: func(f *fact) bool { return f.Before == events.Listen },
		why: func(p phrase, f *fact) phrase {
			return afterEarlier(arrived(p, f), f, " at a listener, for a connection that it does not know")
		},
	},
	{
		path: ReplySynSentBadACK, title: "RST in reply", by: events.TriggerSegment, when: func(f *fact) bool { return f.Before == events.SynSent },
		why: func(p phrase, f *fact) phrase {
			return p.text("an answer to our SYN with an unacceptable ACK or timestamp")
		},
	},
	{
		path: ReplySynRecvBadACK, title: "RST in reply", by: events.TriggerSegment, when: func(f *fact) bool { return f.Before == events.SynRecv },
		why: func(p phrase, f *fact) phrase { return p.text("an unacceptable ACK in the handshake") },
	},
	{
		path: CloseRSTLinger2Late, title: "close → FIN, RST", by: events.TriggerSegment,
		when: func(f *fact) bool { return f.sent(events.Orphan) && f.Linger2Jiffies < 0 && f.SockErr == 0 },
		why: func(p phrase, f *fact) phrase {
			return p.text("the FIN is acknowledged and TCP_LINGER2 < 0 forbids FIN_WAIT2: the kernel resets")
		},
	},
	{
		path: ShutdownData, title: "shutdown → RST", by: events.TriggerSegment,
		when: func(f *fact) bool { return !f.sent(events.Orphan) && f.SockErr != 0 },
		why: func(p phrase, f *fact) phrase {
			return p.text("data arrived after both directions were shut down; descriptor still open")
		},
	},
	{
		path: ReplyFINWait1OOO, title: "RST in reply", by: events.TriggerSegment,
		when: func(f *fact) bool { return f.sent(events.Orphan) && f.SockErr == 0 && f.After == events.Close },
		why: func(p phrase, f *fact) phrase {
			return arrived(p, f).text(" with the ACK of our FIN, after this side closed")
		},
	},
	{
		path: ReplyAfterClose, title: "RST in reply", by: events.TriggerSegment, when: func(f *fact) bool { return f.sent(events.Orphan) },
		why: func(p phrase, f *fact) phrase {
			return afterEarlier(arrived(p, f), f, " after this side closed the connection")
		},
	},
}

// handshakeRefused: tcp_check_req resets what does not fit a handshake of the
// listener, or no longer fits into its queue.
func handshakeRefused(f *fact) bool {
	return f.Before == events.Listen && f.from(f.KernelReason == "INVALID_SYN", "tcp_check_req")
}

// afterEarlier says who had closed the connection and how long ago, or, where
// that was not seen, what is known anyway.
func afterEarlier(p phrase, f *fact, otherwise string) phrase {
	if f.past == nil {
		return p.text(otherwise)
	}
	p = p.text(" ").took(f.past.ago(f.Event)).text(" after ")
	if f.past.actor != nil {
		p = p.task(f.past.actor)
	} else {
		p = p.text("this side")
	}
	return p.text(" closed this connection (").text(string(f.past.path)).text(")")
}

// arrived says what segment is answered.
func arrived(p phrase, f *fact) phrase {
	if f.SegmentBytes > 0 {
		return p.bytes(uint64(f.SegmentBytes)).text(" arrived")
	}
	return p.text("a segment without data arrived")
}

var peerFINRules = []rule{
	{
		path: RecvFIN, title: "FIN received", by: events.TriggerSegment, when: always,
		why: func(p phrase, f *fact) phrase {
			p = p.states(f.Before, f.After)
			switch {
			case f.After != events.CloseWait:
			case f.PeerFINAgoNS > 0:
				p = p.text("; no close by this side seen for ").took(time.Duration(f.PeerFINAgoNS))
			default:
				p = p.text("; now it is for this side to close")
			}
			if f.UnreadBytes > 0 {
				p = p.text("; ").bytes(uint64(f.UnreadBytes)).text(" not read yet")
			}
			return p
		},
	},
}
