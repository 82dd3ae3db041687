package classify

import (
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// receivedRules are for the end of a socket by a segment.
var receivedRules = []rule{
	{
		path: events.RecvICMP, by: events.TriggerSegment, when: hasAnyError,
		calledBy: icmpHandlers, otherwise: refusedByICMP,
		why: func(p phrase, f *fact) phrase {
			if f.ICMP != nil {
				return p.refusal(f.ICMP)
			}
			return p.text("ICMP error during the connection attempt: ").text(errno(f.SockErr))
		},
	},
	{
		path: events.RecvRST, by: events.TriggerSegment, when: resetByNeitherEnd,
		why:   func(p phrase, f *fact) phrase { return sentByNeitherEnd(resetReceived(p, f), f) },
		doubt: doubtSender,
	},
	{
		path: events.RecvRST, by: events.TriggerSegment, when: refusedUnseen,
		why:   resetReceived,
		doubt: noStack,
	},
	{
		path: events.RecvRST, by: events.TriggerSegment, when: (*fact).wasReset,
		why: resetReceived,
	},
}

// peerFINRules are for a FIN received.
var peerFINRules = []rule{
	{
		path: events.RecvFIN, by: events.TriggerSegment, when: always,
		why: func(p phrase, f *fact) phrase {
			switch {
			case f.After != events.CloseWait:
				p = p.states(f.Before, f.After)
			case f.PeerFINAgoNS > 0:
				p = p.text("CLOSE_WAIT; this side has not closed for ").duration(time.Duration(f.PeerFINAgoNS))
			default:
				p = p.text("CLOSE_WAIT; waiting for this side to close")
			}
			if f.UnreadBytes > 0 {
				p = p.text("; ").bytes(uint64(f.UnreadBytes)).text(" unread")
			}
			return p
		},
	},
}

// resetReceived says who learns of the RST, and what is lost.
func resetReceived(p phrase, f *fact) phrase {
	isPlain := !isOrphan(f) && !f.sent(events.EndedInCall) && f.in(events.Established, events.SynSent)
	if !isPlain {
		p = p.text("in ").state(f.Before)
	}
	switch {
	case isPlain:
		p = leftOver(p.text(errno(f.SockErr)), f)
	case isOrphan(f) && f.sent(events.EndedInCall), lingers(f):
		p = resetUnnoticed(p.text(", during ").text(callInProgress(f)), f)
	case isOrphan(f):
		p = resetUnnoticed(afterClose(p, f), f)
	default:
		p = resetNoticed(p, f)
	}
	if f.isProbed() {
		p = p.text("; no byte was ever sent or received: typical of a probe (health check, port scan)")
	} else {
		p = p.idle(f)
	}
	if f.peer != nil {
		p = p.text("; ").peer(f)
	}
	return p
}

// peer says who sent a RST, and why.
func (p phrase) peer(f *fact) phrase {
	rst := f.peer
	switch {
	case rst.path == events.ReplyNoSocket && f.Before == events.SynSent:
		return p.text("closed port (no listener)")
	case rst.actor == nil:
	case rst.path == events.CloseRSTUnread && rst.unread > 0:
		return p.text("peer ").task(rst.actor).text(": ").bytes(uint64(rst.unread)).text(" unread")
	case rst.path == events.CloseRSTLinger0:
		return p.text("peer ").task(rst.actor).text(": SO_LINGER {1,0}")
	case rst.path == events.CloseRSTChild:
		return p.text("peer ").task(rst.actor).text(": listener closed before accept(2)")
	}
	return sender(p.text("sent by "), rst).text(" (").text(string(rst.path)).text(")")
}

// sender says which process sent a RST, or where the netfilter rule is that did.
func sender(p phrase, rst *past) phrase {
	if rst.path != events.ReplyNetfilter {
		return p.task(rst.actor)
	}
	p = p.text("netfilter's REJECT in ").text(rst.hook)
	return phrase(events.AppendNumber(p.text(" of network namespace "), uint64(rst.netns)))
}

const doubtSender = "that neither end sent the RST is concluded from the socket of the other end, which is still open"

// resetByNeitherEnd reports whether no end on this host sent the RST, although both
// are on it: the other one is open, and TCP closes a socket that sends a RST. Nothing
// may be missing of the time in which another socket may have sent it.
func resetByNeitherEnd(f *fact) bool {
	return f.wasReset() && f.peer == nil && f.OtherEnd != nil &&
		!f.losses.between(f.MonoNS-min(f.MonoNS, uint64(peerWindow)), f.MonoNS+uint64(ownerWindow))
}

func sentByNeitherEnd(p phrase, f *fact) phrase {
	p = p.text("; sent by netfilter, XDP or a raw socket: the other end ")
	if f.OtherEnd.Owner != nil {
		p = p.text("(").task(f.OtherEnd.Owner).text(") ")
	}
	return p.text("is still ").state(f.OtherEnd.State).text(" and sent no RST")
}

// resetNoticed says what the application gets that holds the socket.
func resetNoticed(p phrase, f *fact) phrase {
	if f.sent(events.EndedInCall) {
		p = p.text(", during ").text(callInProgress(f))
	}
	if peerFinished(f) {
		return p.endOfFile(f, errno(f.SockErr)).discarded(f.Event)
	}
	return leftOver(p.text("; the application gets ").text(errno(f.SockErr)), f)
}

// endOfFile says what the calls of an application return that had the peer's FIN: no error before it writes.
func (p phrase) endOfFile(f *fact, errno string) phrase {
	p = p.text("; ")
	if f.UnreadBytes > 0 {
		p = p.text("after ").bytes(uint64(f.UnreadBytes)).text(" that can still be read, ")
	}
	return p.text("recv(2) returns 0, only a write fails (").text(errno).text(")")
}

// leftOver says what a RST leaves to be read, and what output it discards.
func leftOver(p phrase, f *fact) phrase {
	if f.UnreadBytes > 0 {
		p = p.text("; ").bytes(uint64(f.UnreadBytes)).text(" received earlier can still be read")
	}
	return p.discarded(f.Event)
}

// resetUnnoticed says what is lost of a connection that no application holds.
func resetUnnoticed(p phrase, f *fact) phrase {
	p = p.text(": no application learns of it")
	if n := f.output(); n > 0 {
		return p.text("; ").bytes(n).text(" that it believes sent are lost")
	}
	return p.text("; all output was acknowledged")
}

// afterClose says when and by which process the connection was closed, where that is known.
func afterClose(p phrase, f *fact) phrase {
	if f.past == nil || f.past.path.Family() != "close" {
		return p.text(", after its close").notKept(f)
	}
	p = p.text(", ").duration(f.past.ago(f.Event)).text(" after ")
	if f.past.actor == nil {
		return p.text("its close (").text(string(f.past.path)).text(")")
	}
	return p.task(f.past.actor).text(" closed it (").text(string(f.past.path)).text(")")
}

// callInProgress returns the call that processed the segment.
func callInProgress(f *fact) string {
	switch trigger, _ := f.trigger(); trigger {
	case events.TriggerShutdown:
		return "shutdown(2)"
	case events.TriggerExit, events.TriggerSignal:
		return "the exit of its process"
	}
	return "close(2)"
}
