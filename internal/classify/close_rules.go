package classify

import (
	"slices"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// The rules for a close follow __tcp_close (net/ipv4/tcp.c) from top to bottom:
// listener, already closed (closedRules), repair, unread data, SO_LINGER 0, state
// table, and last what only the end of the call can tell. What was observed to be
// sent goes before what the state at entry makes one expect.

// closeListenRules are for a listener.
var closeListenRules = []rule{
	{
		path: CloseListenMigrated, title: "close, listener",
		when: func(f *fact) bool { return f.moved() > 0 && f.childrenSeen() },
		why: func(p phrase, f *fact) phrase {
			p = p.text("stops listening; ").count(uint64(f.moved()), "connection")
			return listenerGone(p.text(" not yet accepted moved to another listener of the SO_REUSEPORT group"), f)
		},
	},
	{
		path: CloseListenSynRecv, title: "close, listener",
		when: func(f *fact) bool { return f.PendingRequests > 0 },
		why: func(p phrase, f *fact) phrase {
			p = p.text("stops listening; ").count(uint64(f.PendingRequests), "handshake")
			return listenerGone(p.text(" in progress dropped, reset when the ACK comes"), f)
		},
	},
	{
		path: CloseListen, title: "close, listener", when: always,
		why: func(p phrase, f *fact) phrase { return listenerGone(p.text("stops listening"), f) },
	},
}

// closeResetRules are for a close that sent a RST.
var closeResetRules = []rule{
	{
		path: CloseRSTLinger0Unsent, title: "close → RST",
		when: func(f *fact) bool { return disconnectedByLinger0(f) && f.before(events.Closing, events.LastAck) },
		why: func(p phrase, f *fact) phrase {
			return p.text("SO_LINGER {1,0} in ").text(f.Before.String()).text(" with output unsent").lost(f.Event)
		},
	},
	{
		path: CloseRSTLinger0, title: "close → RST", when: disconnectedByLinger0,
		why: func(p phrase, f *fact) phrase {
			return p.text("SO_LINGER {1,0}: abort asked for in ").text(f.Before.String()).lost(f.Event)
		},
	},
	{
		path: CloseRSTUnread, title: "close → RST",
		when: func(f *fact) bool { return resetBeforeFIN(f) && f.UnreadBytes > 0 },
		why: func(p phrase, f *fact) phrase {
			return p.bytes(uint64(f.UnreadBytes)).text(" unread in the receive queue; the kernel discards them and resets").lost(f.Event)
		},
	},
	{
		path: CloseRSTLinger2, title: "close → RST",
		when: func(f *fact) bool { return f.Linger2Jiffies < 0 && f.AtRST == events.FinWait2 },
		why:  forbidsFinWait2,
	},
	{
		path: CloseRSTOOM, title: "close → RST",
		when: func(f *fact) bool { return f.sent(events.SentFIN) || f.afterShutdown() },
		why: func(p phrase, f *fact) phrase {
			p = outOfMemory(p)
			if f.sent(events.SentFIN) {
				p = p.text("; the FIN just queued is followed by RST")
			}
			return p.lost(f.Event)
		},
	},
	{
		path: CloseRSTUnread, title: "close → RST", when: resetBeforeFIN,
		why: func(p phrase, f *fact) phrase {
			return p.text("the kernel found data in the receive queue, though every byte counts as read").lost(f.Event)
		},
		doubt: "no unread bytes in the evidence; some kernels count a segment that was read and not freed yet",
	},
}

// closeSilentRules come first for one that did not.
var closeSilentRules = []rule{
	{
		path: CloseSilentRepair, title: "close, silent", when: func(f *fact) bool { return f.sent(events.Repair) && f.quiet() },
		why: func(p phrase, f *fact) phrase {
			return p.text("TCP_REPAIR is on: the peer is not told").lost(f.Event)
		},
	},
	{
		path: CloseSilentSynSent, title: "close, silent", when: func(f *fact) bool { return f.Before == events.SynSent },
		why: func(p phrase, f *fact) phrase {
			return p.text("connect(2) was in progress and is given up; nothing is sent")
		},
	},
	{
		path: CloseSilentLinger0, title: "close, silent",
		when: func(f *fact) bool { return f.linger0() && f.quiet() && f.before(events.Closing, events.LastAck) },
		why: func(p phrase, f *fact) phrase {
			return p.text("SO_LINGER {1,0}, but both FINs are sent (").text(f.Before.String()).text("): no RST; the socket is just forgotten")
		},
	},
	{
		path: CloseSilentNetns, title: "close, silent", by: events.TriggerNetns,
		when: func(f *fact) bool { return f.sent(events.NetnsGone) && f.After == events.Close },
		why: func(p phrase, f *fact) phrase {
			return p.text("the network namespace is being torn down")
		},
	},
}

// closeLingerRules are for a close that waited for the ACK of its FIN.
var closeLingerRules = slices.Concat(closeSilentRules, []rule{
	{
		path: CloseLingerSignal, title: "close → FIN, waited",
		when: func(f *fact) bool { return f.unacknowledged() && (f.Signal != 0 || f.WaitedJiffies < f.timeout()) },
		why: func(p phrase, f *fact) phrase {
			p = p.text("SO_LINGER: close(2) waited ").took(f.waited()).text(" of ").took(f.duration(f.timeout()))
			p = p.text(" for the FIN's ACK, then a signal came")
			return p.pending(f.Event)
		},
	},
	{
		path: CloseLingerTimeout, title: "close → FIN, waited",
		when: (*fact).unacknowledged,
		why: func(p phrase, f *fact) phrase {
			p = p.text("SO_LINGER: close(2) waited ").took(f.waited())
			return p.text(" for the FIN's ACK in vain and returned 0 all the same").pending(f.Event)
		},
	},
	{
		path: CloseLingerAborted, title: "close → FIN, waited",
		when: func(f *fact) bool { return f.AtReturn == events.Close && f.OutputLeft > 0 },
		why: func(p phrase, f *fact) phrase {
			p = p.text("SO_LINGER: close(2) waited ").took(f.waited())
			return p.text(" for the FIN's ACK, then the connection was reset or given up; returned 0 all the same")
		},
	},
	{
		path: CloseLingerDone, title: "close → FIN, waited", when: always,
		why: func(p phrase, f *fact) phrase {
			return p.text("SO_LINGER: close(2) waited ").took(f.waited()).text(" until the FIN was acknowledged")
		},
	},
})

// closeRules are for the others.
var closeRules = slices.Concat(closeSilentRules, []rule{
	{
		path: CloseFINActive, title: "close → FIN",
		when: func(f *fact) bool { return f.sent(events.SentFIN) && f.Before == events.Established },
		why: func(p phrase, f *fact) phrase {
			return p.text("all data read; active close, ").states(f.Before, events.FinWait1).pending(f.Event)
		},
	},
	{
		path: CloseFINPassive, title: "close → FIN",
		when: func(f *fact) bool { return f.sent(events.SentFIN) && f.Before == events.CloseWait },
		why: func(p phrase, f *fact) phrase {
			p = p.text("peer closed first")
			if waited := time.Duration(f.PeerFINAgoNS); waited >= time.Second {
				p = p.text(", ").took(waited).text(" before")
			}
			return p.text("; passive close, ").states(f.Before, events.LastAck).pending(f.Event)
		},
	},
	{
		path: CloseFINSynRecv, title: "close → FIN",
		when: func(f *fact) bool { return f.sent(events.SentFIN) && f.Before == events.SynRecv },
		why: func(p phrase, f *fact) phrase {
			return p.text("handshake not finished; the FIN is held back until its ACK comes")
		},
	},
	{
		path: CloseAfterShutdown, title: "close, FIN before", when: (*fact).afterShutdown,
		why: func(p phrase, f *fact) phrase {
			return p.text("FIN sent by an earlier shutdown(2); nothing new is sent, in state ").text(f.Before.String())
		},
	},
	// What follows should not happen: the state at entry makes the kernel send
	// something, and no program saw it. A probe missed it, or tcp_abort won the
	// race for the lock.
	{
		path: CloseRSTUnread, title: "close → RST", when: func(f *fact) bool { return f.UnreadBytes > 0 },
		why: func(p phrase, f *fact) phrase {
			return p.bytes(uint64(f.UnreadBytes)).text(" unread in the receive queue").lost(f.Event)
		},
		doubt: notSeen,
	},
	{
		path: CloseRSTLinger0, title: "close → RST", when: (*fact).linger0,
		why:   func(p phrase, f *fact) phrase { return p.text("SO_LINGER {1,0}").lost(f.Event) },
		doubt: notSeen,
	},
	{
		path: CloseFINPassive, title: "close → FIN", when: func(f *fact) bool { return f.Before == events.CloseWait },
		why:   func(p phrase, f *fact) phrase { return p.text("peer closed first; passive close") },
		doubt: notSeen,
	},
	{
		path: CloseFINActive, title: "close → FIN", when: always,
		why:   func(p phrase, f *fact) phrase { return p.text("active close") },
		doubt: notSeen,
	},
})

func forbidsFinWait2(p phrase, _ *fact) phrase {
	return p.text("TCP_LINGER2 < 0 forbids FIN_WAIT2 without an owner: the kernel resets")
}

func outOfMemory(p phrase) phrase {
	return p.text("too many orphaned sockets (tcp_max_orphans) or TCP out of memory (tcp_mem)")
}

const notSeen = "predicted from the state at entry; the segment itself was not seen being sent"

// disconnectedByLinger0: inside a close only SO_LINGER {1,0} (and repair) calls
// tcp_disconnect. Unread data is checked before it, so where the call itself
// was not seen, unread data decides.
func disconnectedByLinger0(f *fact) bool {
	if f.sent(events.Disconnected) {
		return true
	}
	return f.linger0() && f.UnreadBytes == 0 && resetBeforeFIN(f) && f.AtRST == f.Before
}

// resetBeforeFIN: of the four resets inside a close, those two that come
// instead of a FIN.
func resetBeforeFIN(f *fact) bool { return !f.sent(events.SentFIN) }
