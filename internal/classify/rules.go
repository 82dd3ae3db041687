package classify

import (
	"cmp"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// The paths of this version. Each is the id of a row in docs/paths.md.
const (
	CloseFINActive        events.Path = "close.fin.active"
	CloseFINPassive       events.Path = "close.fin.passive"
	CloseFINSynRecv       events.Path = "close.fin.synrecv"
	CloseRSTUnread        events.Path = "close.rst.unread"
	CloseRSTLinger0       events.Path = "close.rst.linger0"
	CloseRSTLinger0Unsent events.Path = "close.rst.linger0-unsent"
	CloseRSTLinger2       events.Path = "close.rst.linger2"
	CloseRSTLinger2Late   events.Path = "close.rst.linger2-late"
	CloseRSTOOM           events.Path = "close.rst.oom"
	CloseRSTChild         events.Path = "close.rst.accept-queue-child"
	CloseSilentLinger0    events.Path = "close.silent.linger0"
	CloseSilentSynSent    events.Path = "close.silent.synsent"
	CloseSilentRepair     events.Path = "close.silent.repair"
	CloseSilentClosed     events.Path = "close.silent.closed"
	CloseSilentNetns      events.Path = "close.silent.netns"
	CloseAfterShutdown    events.Path = "close.after-shutdown"
	CloseListen           events.Path = "close.listen"
	CloseListenMigrated   events.Path = "close.listen.migrated"
	CloseListenSynRecv    events.Path = "close.listen.synrecv"
	CloseLingerDone       events.Path = "close.linger-wait.done"
	CloseLingerTimeout    events.Path = "close.linger-wait.timeout"
	CloseLingerAborted    events.Path = "close.linger-wait.aborted"
	CloseLingerSignal     events.Path = "close.linger-wait.signal"
	ShutdownRead          events.Path = "shutdown.rd"
	ShutdownWrite         events.Path = "shutdown.wr"
	ShutdownBoth          events.Path = "shutdown.rdwr"
	ShutdownNoop          events.Path = "shutdown.wr.noop"
	ShutdownDeferred      events.Path = "shutdown.wr.deferred"
	ShutdownNotConnected  events.Path = "shutdown.notconn"
	ShutdownListen        events.Path = "shutdown.listen"
	ShutdownSynSent       events.Path = "shutdown.synsent"
	ShutdownData          events.Path = "shutdown.rdwr.data"

	ClosedNever        events.Path = "close.silent.closed.never-connected"
	ClosedTimeWait     events.Path = "close.silent.closed.timewait"
	ClosedLastAck      events.Path = "close.silent.closed.lastack"
	ClosedReset        events.Path = "close.silent.closed.reset"
	ClosedTimeout      events.Path = "close.silent.closed.timeout"
	ClosedAborted      events.Path = "close.silent.closed.aborted"
	ClosedICMP         events.Path = "close.silent.closed.icmp"
	ClosedConnect      events.Path = "close.silent.closed.connect-failed"
	ClosedDisconnected events.Path = "close.silent.closed.disconnected"

	DisconnectRST       events.Path = "disconnect.rst"
	DisconnectRSTUnsent events.Path = "disconnect.rst.unsent"
	DisconnectSilent    events.Path = "disconnect.silent"
	DisconnectListen    events.Path = "disconnect.listen"

	AbortDiag             events.Path = "abort.diag"
	AbortDiagListen       events.Path = "abort.diag.listen"
	AbortKeepalive        events.Path = "abort.keepalive"
	AbortKeepaliveTimeout events.Path = "abort.keepalive.user-timeout"
	AbortUserTimeout      events.Path = "abort.user-timeout"
	AbortRetransTimeout   events.Path = "abort.retrans-timeout"
	AbortSynAckTimeout    events.Path = "abort.synack-timeout"
	AbortOrphanRetries    events.Path = "abort.orphan.retries"
	AbortOrphanOOM        events.Path = "abort.orphan.oom"
	AbortFINWait2         events.Path = "abort.fin-wait2"
	AbortNetns            events.Path = "abort.netns"
	AbortAcceptRace       events.Path = "abort.accept-race"
	AbortMPTCP            events.Path = "abort.mptcp"

	ReplyNoSocket      events.Path = "reply.nosocket"
	ReplyTimeWait      events.Path = "reply.tw-data"
	ReplyAfterClose    events.Path = "reply.data-after-close"
	ReplyFINWait1OOO   events.Path = "reply.fin1-ooo"
	ReplyListenACK     events.Path = "reply.listen-ack"
	ReplyOverflow      events.Path = "reply.overflow"
	ReplyEmbryonic     events.Path = "reply.embryonic"
	ReplySynSentBadACK events.Path = "reply.synsent-badack"
	ReplySynRecvBadACK events.Path = "reply.synrecv-badack"
	ReplyMPTCP         events.Path = "reply.mptcp"

	RecvFIN  events.Path = "recv.fin"
	RecvRST  events.Path = "recv.rst"
	RecvICMP events.Path = "recv.icmp"

	AppWriteAfterShutdown events.Path = "app.write.after-shutdown"
	AppWriteAfterReset    events.Path = "app.write.after-reset"
	AppCloseShared        events.Path = "app.close.shared"
	AppWriteNotConnected  events.Path = "app.write.not-connected"
)

// rule says which events took a path and why. Within a kind of event the first
// rule that applies wins; their order is the order in which the kernel decides.
type rule struct {
	path  events.Path
	title string // for the PATH column
	when  func(*fact) bool
	why   func(phrase, *fact) phrase
	doubt string // if set, the verdict is inferred, and this is why
	// by, if set, is what triggered it whatever task it ran in. A timer and a
	// segment are nobody's call.
	by events.Trigger
}

// fact is an event with what the rules need beside it.
type fact struct {
	*events.Event
	hz   uint64
	past *past // what was known of the socket or connection, may be nil
	peer *past // the RST that the other end on this host sent, may be nil
	// missing are the hooks that could not be attached.
	missing []string
	// byState: for want of a kernel stack, the state of the socket has decided.
	byState bool
}

const bothDirections = 3 // SHUTDOWN_MASK of include/net/sock.h

func (f *fact) sent(flags events.Flags) bool { return f.Flags.Has(flags) }
func (f *fact) quiet() bool                  { return f.Flags&(events.SentFIN|events.SentRST) == 0 }
func (f *fact) before(states ...events.State) bool {
	for _, s := range states {
		if f.Before == s {
			return true
		}
	}
	return false
}

// afterShutdown: the FIN went out with an earlier shutdown(2).
func (f *fact) afterShutdown() bool {
	return f.before(events.FinWait1, events.FinWait2, events.Closing, events.LastAck)
}

func (f *fact) linger0() bool { return f.sent(events.LingerOn) && f.LingerJiffies == 0 }

// exiting: the task is past exit_signals(), where SO_LINGER does not wait.
func (f *fact) exiting() bool { return f.TaskFlags&pfExiting != 0 }

// timeout is how long tcp_close may wait for the FIN to be acknowledged, in
// jiffies. Where its argument was not seen, inet_release's rule gives it.
func (f *fact) timeout() uint64 {
	if f.sent(events.ReturnUnseen) && f.sent(events.LingerOn) && !f.exiting() {
		return f.LingerJiffies
	}
	return f.TimeoutJiffies
}

// lingered: the close waited for its FIN, whether sent now or before.
func (f *fact) lingered() bool {
	if f.timeout() == 0 || f.sent(events.SentRST) || f.Before == events.FinWait2 {
		return false
	}
	return f.sent(events.SentFIN) || f.afterShutdown()
}

// unacknowledged: the FIN had no ACK when the call was over.
func (f *fact) unacknowledged() bool {
	switch cmp.Or(f.AtReturn, f.After) {
	case events.FinWait1, events.Closing, events.LastAck:
		return true
	}
	return false
}

func (f *fact) duration(jiffies uint64) time.Duration {
	if jiffies == 0 || f.hz == 0 {
		return 0
	}
	return time.Duration(min(jiffies, 1<<53/f.hz) * uint64(time.Second) / f.hz)
}

func (f *fact) linger2() time.Duration {
	if f.Linger2Jiffies < 0 {
		return -1
	}
	return f.duration(uint64(f.Linger2Jiffies))
}

// moved is how many connections left a closing listener's queue unharmed. A
// listener whose queue is not emptied has given it to another of its group.
func (f *fact) moved() uint32 {
	gone := max(f.ChildrenDropped, f.ChildrenReset)
	if gone >= f.Children {
		return 0
	}
	return f.Children - gone
}

func always(*fact) bool { return true }

// rules by kind of event.
var rules = [...][]rule{
	events.KindClose:      closeRules,
	events.KindShutdown:   shutdownRules,
	events.KindFIN:        finRules,
	events.KindReset:      resetRules,
	events.KindReply:      replyRules,
	events.KindDisconnect: disconnectRules,
	events.KindAbort:      abortRules,
	events.KindDone:       doneRules,
	events.KindPeerFIN:    peerFINRules,
	events.KindEPIPE:      appRules,
	events.KindShared:     sharedRules,
}

var shutdownRules = []rule{
	{
		path: ShutdownListen, title: "shutdown, listener", when: func(f *fact) bool { return f.Before == events.Listen },
		why: func(p phrase, f *fact) phrase {
			if f.After == events.Listen {
				return p.text("SHUT_WR means nothing to a listener: it goes on listening")
			}
			return listenerGone(p.text("stops listening; accept(2) fails from now on"), f)
		},
	},
	{
		path: ShutdownSynSent, title: "shutdown, silent", when: func(f *fact) bool { return f.Before == events.SynSent },
		why: func(p phrase, f *fact) phrase {
			return p.text("connect(2) was in progress and is given up; nothing is sent")
		},
	},
	{
		path: ShutdownNotConnected, title: "shutdown, refused", when: func(f *fact) bool { return f.Before == events.Close },
		why: func(p phrase, f *fact) phrase {
			return p.text("not connected: ENOTCONN; nothing is sent")
		},
	},
	{
		path: ShutdownBoth, title: "shutdown → FIN",
		when: func(f *fact) bool { return f.sent(events.SentFIN) && f.How == bothDirections },
		why: func(p phrase, f *fact) phrase {
			return p.states(f.Before, f.After).text("; data that still arrives will be answered with RST").pending(f.Event)
		},
	},
	{
		path: ShutdownWrite, title: "shutdown → FIN", when: func(f *fact) bool { return f.sent(events.SentFIN) },
		why: func(p phrase, f *fact) phrase {
			return p.states(f.Before, f.After).text("; reading stays open").pending(f.Event)
		},
	},
	{
		path: ShutdownRead, title: "shutdown, silent", when: func(f *fact) bool { return f.How == 1 },
		why: func(p phrase, f *fact) phrase {
			return p.text("SHUT_RD tells the peer nothing; what arrives is still queued, and resets at close if unread")
		},
	},
	{
		path: ShutdownDeferred, title: "shutdown, later", when: func(f *fact) bool { return f.Before == events.SynRecv },
		why: func(p phrase, f *fact) phrase {
			return p.text("handshake not finished; the FIN is deferred until it is")
		},
	},
	{
		path: ShutdownNoop, title: "shutdown, no-op", when: (*fact).afterShutdown,
		why: func(p phrase, f *fact) phrase {
			return p.text("FIN sent before, in state ").text(f.Before.String()).text("; nothing left to shut down")
		},
	},
	{
		path: ShutdownWrite, title: "shutdown → FIN", when: func(f *fact) bool { return f.How&2 != 0 },
		why: func(p phrase, f *fact) phrase {
			return p.states(f.Before, f.After)
		},
		doubt: "tcp_send_fin was not seen",
	},
}

func listenerGone(p phrase, f *fact) phrase {
	if f.ChildrenReset > 0 {
		p = p.text("; ").count(uint64(f.ChildrenReset), "connection").text(" not yet accepted reset")
	}
	return p
}
