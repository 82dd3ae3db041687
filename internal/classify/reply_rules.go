package classify

import "github.com/closetrace/closetrace/internal/events"

// replyRules are for a RST in reply to a segment.
var replyRules = []rule{
	{
		path: events.ReplyMPTCP, by: events.TriggerSegment, when: refusedByMPTCP,
		why: func(p phrase, f *fact) phrase {
			return p.text("MPTCP rejects the segment: ").text(f.KernelReason).idle(f)
		},
	},
	{
		path: events.ReplyNoSocket, by: events.TriggerSegment, when: meantForAnother,
		why: notTranslated,
		doubt: "that the segment was meant for that connection is concluded from its local address and port: " +
			"it may be of an older connection",
	},
	{
		path: events.ReplyNoSocket, by: events.TriggerSegment, when: withoutSocket,
		why: func(p phrase, f *fact) phrase {
			if f.SegmentFlags&(thSYN|thACK) == thSYN {
				return p.text("SYN to a closed port (no listener)")
			}
			return afterEarlier(arrived(p, f), f, " for a connection that does not exist here")
		},
	},
	{
		path: events.ReplyTimeWait, by: events.TriggerSegment, when: inTimeWait,
		why: func(p phrase, f *fact) phrase {
			return afterEarlier(arrived(p, f), f, " after this side closed the connection")
		},
	},
	{
		path: events.ReplyOverflow, by: events.TriggerSegment, when: inListenWithoutSYN,
		calledBy: []string{"tcp_check_req"}, otherwise: invalidSYN,
		why: func(p phrase, f *fact) phrase {
			return p.text("accept queue full and tcp_abort_on_overflow set: the completed handshake is rejected")
		},
	},
	{
		path: events.ReplyEmbryonic, by: events.TriggerSegment, when: inNewSynRecv,
		why: func(p phrase, f *fact) phrase {
			return p.text("a segment does not match the handshake in progress")
		},
	},
	{
		path: events.ReplyEmbryonic, by: events.TriggerSegment, when: inListen,
		calledBy: []string{"tcp_check_req"}, otherwise: invalidSYN,
		why: func(p phrase, f *fact) phrase {
			return p.text("a segment does not match the handshake in progress")
		},
	},
	{
		path: events.ReplyListenACK, by: events.TriggerSegment, when: unknownAtFullListener,
		why:   handshakeDropped,
		doubt: "that the handshake was dropped is concluded from the full accept queue: it may be an older connection",
	},
	{
		path: events.ReplyListenACK, by: events.TriggerSegment, when: inListen,
		why: func(p phrase, f *fact) phrase {
			if f.PendingRequests > 0 {
				const other = " at a listener, for an unknown connection or with an ACK that fits no handshake in progress"
				return afterEarlier(arrived(p, f), f, other)
			}
			return afterEarlier(arrived(p, f), f, " at a listener, for an unknown connection")
		},
	},
	{
		path: events.ReplySynSentBadACK, by: events.TriggerSegment, when: inSynSent,
		why: func(p phrase, f *fact) phrase {
			return p.text("a reply to this side's SYN has an unacceptable ACK or timestamp")
		},
	},
	{
		path: events.ReplySynRecvBadACK, by: events.TriggerSegment, when: inSynRecv,
		why: func(p phrase, f *fact) phrase { return p.text("a segment in the handshake has an unacceptable ACK") },
	},
	{
		path: events.CloseRSTLinger2Late, by: events.TriggerSegment, when: orphanInLinger2,
		why: func(p phrase, f *fact) phrase {
			return p.text("FIN acknowledged; TCP_LINGER2 < 0: instead of FIN_WAIT2, the kernel sends RST").idle(f)
		},
	},
	{
		path: events.ShutdownData, by: events.TriggerSegment, when: openWithError,
		why: func(p phrase, f *fact) phrase {
			return p.text("data arrived after shutdown(2) of both directions; descriptor still open").idle(f)
		},
	},
	{
		path: events.ReplyFINWait1OOO, by: events.TriggerSegment, when: orphanWithoutError,
		why: func(p phrase, f *fact) phrase {
			return arrived(p, f).text(" with the ACK of this side's FIN, after this side closed").idle(f)
		},
	},
	{
		path: events.ReplyAfterClose, by: events.TriggerSegment, when: isClosed,
		why: func(p phrase, f *fact) phrase {
			return afterEarlier(arrived(p, f), f, " after this side closed the connection").idle(f)
		},
	},
}

// meantForAnother reports whether a segment from an address that no socket has was
// meant for the only connection with its local address and port.
func meantForAnother(f *fact) bool {
	return withoutSocket(f) && f.past == nil && f.OtherRemote.IsValid()
}

func notTranslated(p phrase, f *fact) phrase {
	p = arrived(p, f).text(" from an address without a connection; ")
	if f.Owner != nil {
		p = p.task(f.Owner)
	} else {
		p = p.text("a process")
	}
	p = p.text(" has one from the same address and port to ").text(f.OtherRemote.String())
	return p.text(": address translation (conntrack) may not have restored the source, or it is of an older connection")
}

// afterEarlier says who had closed the connection and how long ago, or, where
// that was not seen, what is known anyway.
func afterEarlier(p phrase, f *fact, otherwise string) phrase {
	if f.past == nil && (isOrphan(f) || inTimeWait(f)) {
		return p.text(otherwise).notKept(f)
	}
	if f.past == nil {
		return p.text(otherwise)
	}
	p = p.text(" ").duration(f.past.ago(f.Event)).text(" after ")
	switch {
	case f.past.actor != nil && f.past.path.Family() != "abort":
		p = p.task(f.past.actor).text(" closed")
	case f.past.actor != nil:
		p = p.task(f.past.actor).text(" ended the connection")
	case f.past.path == events.RecvRST:
		p = p.text("a RST reset the connection")
	case f.past.path.Family() == "recv" || f.past.path.Family() == "abort":
		p = p.text("the connection ended")
	default:
		p = p.text("this side closed")
	}
	if f.past.path == events.CloseFINActive || f.past.path == events.CloseFINPassive {
		return p // an ordinary close
	}
	return p.text(" (").text(string(f.past.path)).text(")")
}

// unknownAtFullListener reports whether a segment of a connection that is not known reached a listener whose accept
// queue is full.
func unknownAtFullListener(f *fact) bool { return inListen(f) && f.past == nil && f.acceptQueueFull() }

// acceptQueueFull is sk_acceptq_is_full (include/net/sock.h).
func (f *fact) acceptQueueFull() bool {
	return f.Children > f.BacklogLimit && f.SegmentFlags&thSYN == 0
}

// handshakeDropped says why a listener does not know a connection that its peer
// considers established.
func handshakeDropped(p phrase, f *fact) phrase {
	p = p.text("the accept queue of this listener is full (").number(uint64(f.Children)).text(" of ")
	p = p.number(uint64(f.BacklogLimit))
	if f.Owner != nil {
		p = p.text("; ").task(f.Owner).text(" does not accept")
	}
	return arrived(p.text("): the end of the handshake was probably dropped; "), f)
}

// arrived says what segment is answered.
func arrived(p phrase, f *fact) phrase {
	return p.segment(f).text(" arrived")
}

// segment appends what the segment carries.
func (p phrase) segment(f *fact) phrase {
	if f.SegmentBytes > 0 {
		return p.bytes(uint64(f.SegmentBytes))
	}
	switch f.SegmentFlags & (thFIN | thSYN | thACK) {
	case thFIN, thFIN | thACK:
		return p.text("a FIN")
	case thSYN:
		return p.text("a SYN")
	case thSYN | thACK:
		return p.text("a SYN-ACK")
	case thACK:
		return p.text("an ACK")
	}
	return p.text("a segment without data")
}
