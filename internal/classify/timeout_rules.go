package classify

import "github.com/closetrace/closetrace/internal/events"

// timeoutRules are for the end of a socket by a timer, by SOCK_DESTROY in tracepoint mode,
// and with its network namespace.
var timeoutRules = []rule{
	{
		path: events.AbortDiag, by: events.TriggerNetlink, when: hasAbortError,
		why: func(p phrase, f *fact) phrase {
			return p.text("SOCK_DESTROY (ss -K) in ").state(f.Before).text("; neither FIN nor RST")
		},
	},
	{
		path: events.AbortNetns, by: events.TriggerNetns, when: netnsGone,
		why: func(p phrase, f *fact) phrase {
			return p.text("the network namespace is being destroyed").discarded(f.Event)
		},
	},
	{
		path: events.AbortOrphanOOM, title: "timer, silent", by: events.TriggerTimer, when: orphanOutOfMemory,
		why: orphanDropped,
	},
	{
		path: events.AbortSynAckTimeout, by: events.TriggerTimer, when: synAckTimedOut,
		why: func(p phrase, f *fact) phrase { return p.text("SYN-ACK never acknowledged") },
	},
	{
		path: events.AbortUserTimeout, by: events.TriggerTimer, when: userTimedOut,
		why: func(p phrase, f *fact) phrase {
			p = p.text("TCP_USER_TIMEOUT (").number(uint64(f.UserTimeoutMS)).text(" ms) expired")
			if inSynSent(f) {
				return p.text(": no answer to ").count(uint64(f.Retransmits)+1, "SYN")
			}
			return unacknowledged(p, f)
		},
	},
	{
		path: events.AbortOrphanRetries, by: events.TriggerTimer, when: orphanTimedOut,
		why: func(p phrase, f *fact) phrase {
			if f.probing() {
				return unacknowledged(probesExhausted(p.text("closed with unsent output; "), f), f)
			}
			return unacknowledged(p.text("closed with unacknowledged output; retransmission timeout"), f)
		},
	},
	{
		path: events.AbortRetransTimeout, by: events.TriggerTimer, when: timedOutInSynSent,
		why: func(p phrase, f *fact) phrase { return p.text("no answer to ").count(uint64(f.Retransmits)+1, "SYN") },
	},
	{
		path: events.AbortRetransTimeout, by: events.TriggerTimer, when: timedOut,
		why: func(p phrase, f *fact) phrase {
			if f.probing() {
				return unacknowledged(probesExhausted(p, f), f)
			}
			return unacknowledged(p.text("retransmission timeout"), f)
		},
	},
}

func probesExhausted(p phrase, f *fact) phrase {
	if f.cannotSend() {
		return p.text("attempts to send exhausted")
	}
	return p.text("window probes exhausted")
}

// unacknowledged adds what a timer sent again without success, and what is lost.
func unacknowledged(p phrase, f *fact) phrase {
	switch {
	case f.cannotSend():
		p = p.text(": the peer's window is open, and this host could not send (firewall, no route): ")
		p = p.count(uint64(f.Probes), "attempt").text(" failed")
	case f.probing():
		p = p.text(": the peer does not read (window 0), all that was sent is acknowledged")
		if f.Probes > 0 { // an answer sets it to 0
			p = p.text("; ").count(uint64(f.Probes), "window probe").text(" unanswered")
		}
	default:
		p = p.text(": ").count(uint64(f.Retransmits), "retransmission").text(" without an ACK")
	}
	if f.SockErr != etimedout {
		p = p.text(", ").text(errno(f.SockErr)).text(" reported meanwhile")
	}
	switch {
	case !f.nothingArrived():
	case f.hasError(enetunreach, ehostunreach): // sk_err_soft: by a look-up of the route, or by ICMP
		p = p.text("; not one byte was ever acknowledged, the handshake was: no route, on this host or on the way")
	default:
		p = p.text("; not one byte was ever acknowledged, the handshake was: MTU?")
	}
	if f.probing() && f.UnsentBytes > 0 {
		return p.text("; ").bytes(uint64(f.UnsentBytes)).text(" were never sent")
	}
	return p.discarded(f.Event)
}

// aFullSegment is more than a path with any usual MTU drops by its size alone: the
// minimum of IPv6 less its headers.
const aFullSegment = 1220

// nothingArrived reports whether the peer acknowledged the handshake and no byte
// after it, although a full segment was sent. A FIN that was sent counts one.
func (f *fact) nothingArrived() bool {
	if f.FirstSent == 0 || f.UnackedBytes < aFullSegment || f.in(events.SynSent, events.SynRecv) {
		return false
	}
	acknowledged := f.SndNxt - f.UnackedBytes - f.FirstSent
	if finUnacknowledged(f) && f.UnsentBytes == 0 {
		acknowledged--
	}
	return acknowledged <= 1 // of the side that sent the SYN, the SYN
}
