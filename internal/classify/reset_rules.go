package classify

import "github.com/closetrace/closetrace/internal/events"

// resetRules are for a RST outside of a close, shutdown, disconnect or abort.
var resetRules = []rule{
	{
		path: events.CloseRSTLinger2, when: reportedInFinWait2,
		why: forbidsFinWait2,
	},
	{
		path: events.CloseRSTOOM, when: inReportedCall,
		why: func(p phrase, f *fact) phrase { return outOfMemory(p).discarded(f.Event) },
	},
	{
		path: events.CloseRSTChild, when: inAcceptQueue,
		why: func(p phrase, f *fact) phrase {
			p = p.text("in the accept queue when its listener closed")
			if f.UnreadBytes > 0 {
				p = p.text("; ").bytes(uint64(f.UnreadBytes)).text(" received, never read")
			}
			return p
		},
	},
	{
		path: events.AbortMPTCP, when: resetByMPTCP,
		why: mptcpReset,
	},
	{
		path: events.DisconnectRST, when: disconnectMissing,
		calledBy: []string{"tcp_disconnect"}, otherwise: inConnectCall,
		why: func(p phrase, f *fact) phrase { return p.text("connect(AF_UNSPEC)") },
	},
	{
		path: events.AbortDiag, title: "killed → RST", by: events.TriggerNetlink,
		when: abortedByTask,
		why: func(p phrase, f *fact) phrase {
			return killed(p, f).discarded(f.Event)
		},
	},
	{
		path: events.AbortFINWait2, by: events.TriggerTimer, when: orphanInFinWait2,
		calledBy: []string{"tcp_keepalive_timer"}, otherwise: always,
		why: func(p phrase, f *fact) phrase {
			return p.text("FIN_WAIT2 timeout: no FIN from the peer within tcp_fin_timeout or TCP_LINGER2")
		},
	},
	{
		path: events.AbortKeepaliveTimeout, by: events.TriggerTimer, when: ownedWithUserTimeout,
		calledBy: []string{"tcp_keepalive_timer"}, otherwise: keepaliveTimedOut,
		why: func(p phrase, f *fact) phrase {
			p = p.text("TCP_USER_TIMEOUT (").number(uint64(f.UserTimeoutMS)).text(" ms) expired after ")
			return p.count(uint64(f.Probes), "unanswered keepalive probe").idle(f).discarded(f.Event)
		},
	},
	{
		path: events.AbortKeepalive, by: events.TriggerTimer, when: isOwned,
		calledBy: []string{"tcp_keepalive_timer"}, otherwise: keepaliveTimedOut,
		why: func(p phrase, f *fact) phrase {
			return p.text("keepalive timeout after ").count(uint64(f.Probes), "unanswered probe").idle(f).discarded(f.Event)
		},
	},
	{
		path: events.AbortOrphanOOM, by: events.TriggerTimer, when: isOrphan,
		calledBy: []string{"tcp_out_of_resources"}, otherwise: finUnacknowledged,
		why: orphanDropped,
	},
	{
		path: events.AbortAcceptRace, by: events.TriggerSegment, when: newInClose,
		calledBy: []string{"inet_csk_reqsk_queue_add", "inet_child_forget"}, otherwise: notShutDown,
		why: func(p phrase, f *fact) phrase { return p.text("handshake completed while its listener was closing") },
	},
}

func orphanDropped(p phrase, f *fact) phrase {
	return outOfMemory(p.text("closed with unacknowledged output; ")).discarded(f.Event)
}

func mptcpReset(p phrase, f *fact) phrase {
	p = p.text("MPTCP resets this subflow")
	switch {
	case f.UnreadBytes > 0 && f.sent(events.FileClosing):
		p = p.text("; its connection was closed with ").bytes(uint64(f.UnreadBytes)).text(" unread")
	case f.UnreadBytes > 0:
		p = p.text("; ").bytes(uint64(f.UnreadBytes)).text(" unread")
	}
	return p.discarded(f.Event)
}
