package classify

import "github.com/closetrace/closetrace/internal/events"

// shutdownRules are for shutdown(2).
var shutdownRules = []rule{
	{
		path: events.ShutdownListen, when: inListen,
		why: func(p phrase, f *fact) phrase {
			if f.After == events.Listen {
				return p.text("SHUT_WR has no effect on a listener")
			}
			return queueReset(p.text("listener shut down; accept(2) fails from now on"), f)
		},
	},
	{
		path: events.RecvICMP, when: connectingWithICMP,
		why: (phrase).connecting,
	},
	{
		path: events.ShutdownSynSent, when: inSynSent,
		why: (phrase).connecting,
	},
	{
		path: events.ShutdownNotConnected, when: inClose,
		why: func(p phrase, f *fact) phrase { return p.text("ENOTCONN: not connected; neither FIN nor RST") },
	},
	{
		path: events.ShutdownBoth, when: sentFINInBothDirections,
		why: func(p phrase, f *fact) phrase {
			return p.states(f.Before, f.After).text("; data that arrives from now on is answered with RST").queuedFIN(f.Event)
		},
	},
	{
		path: events.ShutdownWrite, when: sentFIN,
		why: func(p phrase, f *fact) phrase {
			return p.states(f.Before, f.After).text("; read side stays open").queuedFIN(f.Event)
		},
	},
	{
		path: events.ShutdownRead, when: isForReading,
		why: func(p phrase, f *fact) phrase {
			return p.text("SHUT_RD sends nothing; data is still queued, and close(2) with unread data sends RST")
		},
	},
	{
		path: events.ShutdownDeferred, when: inSynRecv,
		why: func(p phrase, f *fact) phrase {
			return p.text("handshake in progress; the FIN is deferred until it completes")
		},
	},
	{
		path: events.ShutdownNoop, when: (*fact).afterShutdown,
		why: func(p phrase, f *fact) phrase {
			return p.text("FIN already sent; nothing left to shut down in ").state(f.Before)
		},
	},
	{
		path: events.ShutdownWrite, when: isForWriting,
		why:   func(p phrase, f *fact) phrase { return p.states(f.Before, f.After) },
		doubt: "tcp_send_fin was not observed",
	},
}

// finRules are for a FIN outside of a close or shutdown.
var finRules = []rule{
	{
		path: events.ShutdownDeferred, title: "shutdown → FIN", by: events.TriggerSegment,
		when: sentByHandshake,
		why: func(p phrase, f *fact) phrase {
			return p.text("handshake completed; the FIN that shutdown(2) deferred is sent now")
		},
	},
	{
		path: events.CloseFINActive, title: "close → FIN, MPTCP",
		when: subflowInEstablished,
		why: func(p phrase, f *fact) phrase {
			return p.text("MPTCP closes this subflow, ").states(f.Before, f.After)
		},
	},
	{
		path: events.CloseFINPassive, title: "close → FIN, MPTCP",
		when: subflowInCloseWait,
		why: func(p phrase, f *fact) phrase {
			return p.text("MPTCP closes this subflow, ").states(f.Before, f.After)
		},
	},
}

func queueReset(p phrase, f *fact) phrase {
	if f.ChildrenReset > 0 {
		p = p.text("; ").count(uint64(f.ChildrenReset), "connection").text(" in the accept queue reset")
	}
	return p
}
