package classify

import (
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// closeListenRules are for a listener.
var closeListenRules = []rule{
	{
		path: events.CloseListenMigrated, when: movedConnections,
		why: func(p phrase, f *fact) phrase {
			p = p.text("listener closed; ").count(uint64(f.moved()), "connection")
			return queueReset(p.text(" in the accept queue moved to another listener of the SO_REUSEPORT group"), f)
		},
	},
	{
		path: events.CloseListen, when: requestsMayMigrate,
		why: func(p phrase, f *fact) phrase {
			p = p.text("listener closed; ").count(uint64(f.PendingRequests), "handshake").text(" in progress dropped")
			return queueReset(p.text(", or moved to another listener of the SO_REUSEPORT group"), f)
		},
		doubt: "whether handshakes in progress moved to another listener of the SO_REUSEPORT group is not observed",
	},
	{
		path: events.CloseListenSynRecv, when: hasPendingRequests,
		why: func(p phrase, f *fact) phrase {
			p = p.text("listener closed; ").count(uint64(f.PendingRequests), "handshake")
			return queueReset(p.text(" in progress dropped, and reset when the ACK arrives"), f)
		},
	},
	{
		path: events.CloseListen, when: always,
		why: func(p phrase, f *fact) phrase { return queueReset(p.text("listener closed"), f) },
	},
}

// closeResetRules are for a close that sent a RST.
var closeResetRules = []rule{
	{
		path: events.CloseRSTLinger0Unsent, when: linger0ResetAfterBothFINs,
		why: func(p phrase, f *fact) phrase {
			return p.text("abortive close (SO_LINGER {1,0}) in ").state(f.Before).text(" with unsent output").discarded(f.Event)
		},
	},
	{
		path: events.CloseRSTLinger0, when: linger0Reset,
		why: func(p phrase, f *fact) phrase {
			p = p.text("abortive close (SO_LINGER {1,0}) in ").state(f.Before).discarded(f.Event)
			if f.isProbe() {
				p = p.text("; no byte was ever sent or received")
			}
			return p
		},
	},
	{
		path: events.CloseRSTUnread, when: resetWithUnread,
		why: func(p phrase, f *fact) phrase {
			p = p.bytes(uint64(f.UnreadBytes)).text(" unread in the receive queue")
			if f.UnreadBytes == tls13CloseNotify || f.UnreadBytes == tls12CloseNotify {
				p = p.text(", perhaps a TLS close_notify")
			}
			return p.discarded(f.Event)
		},
	},
	{
		path: events.CloseRSTLinger2, when: resetInFinWait2,
		why: forbidsFinWait2,
	},
	{
		path: events.CloseRSTOOM, when: resetAfterFIN,
		why: func(p phrase, f *fact) phrase {
			p = outOfMemory(p)
			if f.sent(events.SentFIN) {
				p = p.text("; RST sent right after the FIN")
			}
			return p.discarded(f.Event)
		},
	},
	{
		path: events.CloseRSTUnread, when: resetWithoutFIN,
		why: func(p phrase, f *fact) phrase {
			return p.text("receive queue not empty although every byte was read").discarded(f.Event)
		},
		doubt: "no unread bytes were observed; some kernels count a segment that was read and not freed yet",
	},
}

// closeSilentRules are for a close that sends no RST, where one might expect a segment.
var closeSilentRules = []rule{
	{
		path: events.CloseSilentRepair, when: silentInRepair,
		why: func(p phrase, f *fact) phrase {
			return p.text("TCP_REPAIR is on: neither FIN nor RST").discarded(f.Event)
		},
	},
	{
		path: events.RecvICMP, when: connectingWithICMP,
		why: (phrase).connecting,
	},
	{
		path: events.CloseSilentSynSent, when: inSynSent,
		why: (phrase).connecting,
	},
	{
		path: events.CloseSilentLinger0, when: silentLinger0,
		why: func(p phrase, f *fact) phrase {
			p = p.text("SO_LINGER {1,0} after both sides sent a FIN (").state(f.Before)
			return p.text("): the socket is freed without a RST")
		},
	},
	{
		path: events.CloseSilentNetns, by: events.TriggerNetns, when: closedWithNetns,
		why: func(p phrase, f *fact) phrase { return p.text("the network namespace is being destroyed") },
	},
}

// closeLingerRules are for a close that waited for the ACK of its FIN.
var closeLingerRules = []rule{
	{
		path: events.CloseLingerSignal, when: waitInterrupted,
		why: func(p phrase, f *fact) phrase {
			p = p.text("close(2) lingered ").duration(f.waited()).text(" of ").duration(f.duration(f.timeout()))
			p = p.text(" for the ACK of its FIN, then a signal interrupted it")
			return p.queuedFIN(f.Event)
		},
	},
	{
		path: events.CloseLingerTimeout, when: (*fact).unacknowledged,
		why: func(p phrase, f *fact) phrase {
			p = p.text("close(2) lingered ").duration(f.waited())
			return p.text(", the FIN was not acknowledged, and it still returned 0").queuedFIN(f.Event)
		},
	},
	{
		path: events.CloseLingerAborted, when: closedWhileWaiting,
		why: func(p phrase, f *fact) phrase {
			p = p.text("close(2) lingered ").duration(f.waited())
			return p.text(", then the connection was reset or timed out, and it still returned 0")
		},
	},
	{
		path: events.CloseLingerDone, when: always,
		why: func(p phrase, f *fact) phrase {
			return p.text("close(2) lingered ").duration(f.waited()).text(" until the FIN was acknowledged")
		},
	},
}

// closeFINRules are for all other closes.
var closeFINRules = []rule{
	{
		path: events.CloseFINActive, when: sentFINInEstablished,
		why: func(p phrase, f *fact) phrase {
			return p.reading(f).text("; ").states(f.Before, events.FinWait1).queuedFIN(f.Event)
		},
	},
	{
		path: events.CloseFINPassive, when: sentFINInCloseWait,
		why: func(p phrase, f *fact) phrase {
			p = p.text("peer closed first")
			if waited := time.Duration(f.PeerFINAgoNS); waited >= time.Second {
				p = p.text(", ").duration(waited).text(" earlier")
			}
			return p.text("; ").states(f.Before, events.LastAck).queuedFIN(f.Event)
		},
	},
	{
		path: events.CloseFINSynRecv, when: sentFINInSynRecv,
		why: func(p phrase, f *fact) phrase {
			return p.text("handshake in progress; the FIN is sent at once")
		},
	},
	{
		path: events.CloseAfterShutdown, when: (*fact).afterShutdown,
		why: func(p phrase, f *fact) phrase {
			return p.text("FIN already sent by shutdown(2); nothing is sent in ").state(f.Before)
		},
	},
	{
		path: events.CloseRSTUnread, when: hasUnread,
		why: func(p phrase, f *fact) phrase {
			return p.bytes(uint64(f.UnreadBytes)).text(" unread in the receive queue").discarded(f.Event)
		},
		doubt: notSeen,
	},
	{
		path: events.CloseRSTLinger0, when: (*fact).linger0,
		why:   func(p phrase, f *fact) phrase { return p.text("abortive close (SO_LINGER {1,0})").discarded(f.Event) },
		doubt: notSeen,
	},
	{
		path: events.CloseFINPassive, when: inCloseWait,
		why:   func(p phrase, f *fact) phrase { return p.text("peer closed first; passive close") },
		doubt: notSeen,
	},
	{
		path: events.CloseFINActive, when: always,
		why:   func(p phrase, f *fact) phrase { return p.text("active close") },
		doubt: notSeen,
	},
}

// The length of a close_notify: RFC 8446 with a byte of content type and a tag of 16
// bytes, and TLS 1.2 with AES-GCM.
const (
	tls13CloseNotify = 24
	tls12CloseNotify = 31
)

func forbidsFinWait2(p phrase, _ *fact) phrase {
	return p.text("TCP_LINGER2 < 0: instead of FIN_WAIT2 without an owner, the kernel sends RST")
}

func outOfMemory(p phrase) phrase {
	return p.text("too many orphaned sockets (tcp_max_orphans) or TCP out of memory (tcp_mem)")
}

const notSeen = "predicted from the state at entry; the segment was not observed"
