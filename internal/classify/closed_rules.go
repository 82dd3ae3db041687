package classify

import "github.com/closetrace/closetrace/internal/events"

// closedRules tell why a socket was in CLOSE already when it was closed:
// nothing is sent, and the question is what ended it before. What was seen to
// end it goes before what the socket still shows.
var closedRules = []rule{
	{
		path: ClosedICMP, title: "close, silent", when: func(f *fact) bool { return f.endedAs(RecvICMP) },
		why: func(p phrase, f *fact) phrase { return ended(p.text("ended by an ICMP error before"), f) },
	},
	{
		path: ClosedConnect, title: "close, silent", when: func(f *fact) bool {
			return f.past != nil && f.past.before == events.SynSent && f.past.path.Family() != "shutdown"
		},
		why: func(p phrase, f *fact) phrase { return ended(p.text("connect(2) had failed"), f) },
	},
	{
		path: ClosedDisconnected, title: "close, silent", when: func(f *fact) bool {
			return f.endedBy("disconnect") || f.endedAs(ShutdownSynSent, ShutdownListen)
		},
		why: func(p phrase, f *fact) phrase { return ended(p.text("disconnected before"), f) },
	},
	{
		path: ClosedReset, title: "close, silent", when: func(f *fact) bool { return f.endedAs(RecvRST, ShutdownData) },
		why: func(p phrase, f *fact) phrase { return ended(p.text("reset before"), f) },
	},
	{
		path: ClosedAborted, title: "close, silent", when: func(f *fact) bool { return f.endedAs(AbortDiag, AbortDiagListen) },
		why: func(p phrase, f *fact) phrase { return ended(p.text("killed before"), f) },
	},
	{
		path: ClosedTimeout, title: "close, silent", when: func(f *fact) bool { return f.endedBy("abort") },
		why: func(p phrase, f *fact) phrase { return ended(p.text("given up by a timer before"), f) },
	},
	{
		path: ClosedReset, title: "close, silent", when: func(f *fact) bool { return f.pending(econnreset, epipe) },
		why: func(p phrase, f *fact) phrase {
			return p.text("reset before; ").text(errno(f.SockErr)).text(" never read")
		},
	},
	{
		path: ClosedConnect, title: "close, silent", when: func(f *fact) bool { return f.pending(econnrefused) },
		why: func(p phrase, f *fact) phrase { return p.text("connect(2) had failed; ECONNREFUSED never read") },
	},
	{
		path: ClosedTimeout, title: "close, silent", when: func(f *fact) bool { return f.pending(etimedout) },
		why: func(p phrase, f *fact) phrase { return p.text("given up by a timer before; ETIMEDOUT never read") },
	},
	{
		path: ClosedAborted, title: "close, silent", when: func(f *fact) bool { return f.pending(econnaborted) },
		why: func(p phrase, f *fact) phrase { return p.text("killed before; ECONNABORTED never read") },
	},
	{
		path: ClosedLastAck, title: "close, silent", when: func(f *fact) bool {
			return f.sent(events.PeerFIN) && f.past != nil && f.past.fin && f.past.before == events.CloseWait
		},
		why: func(p phrase, f *fact) phrase {
			return ended(p.text("both FINs were exchanged before, the peer's first"), f)
		},
	},
	{
		path: ClosedTimeWait, title: "close, silent", when: func(f *fact) bool { return f.sent(events.PeerFIN) && f.past != nil && f.past.fin },
		why: func(p phrase, f *fact) phrase { return ended(p.text("both FINs were exchanged before, ours first"), f) },
	},
	{
		path: ClosedNever, title: "close, silent", when: func(f *fact) bool { return f.Remote.Port() == 0 && f.Local.Port() == 0 },
		why: func(p phrase, f *fact) phrase { return p.text("never connected") },
	},
	{
		path: CloseSilentClosed, title: "close, silent", when: func(f *fact) bool { return f.sent(events.PeerFIN) },
		why: func(p phrase, f *fact) phrase { return p.text("both FINs were exchanged before") },
	},
	{
		path: CloseSilentClosed, title: "close, silent", when: always,
		why: func(p phrase, f *fact) phrase {
			return p.text("closed or not connected before; what ended it was not seen")
		},
	},
}

func (f *fact) endedBy(family string) bool {
	return f.past != nil && f.past.path.Family() == family
}

func (f *fact) endedAs(paths ...events.Path) bool {
	for _, p := range paths {
		if f.past != nil && f.past.path == p {
			return true
		}
	}
	return false
}

// pending: one of these errors waits on the socket.
func (f *fact) pending(errnos ...int32) bool {
	for _, n := range errnos {
		if f.SockErr == n {
			return true
		}
	}
	return false
}

// ended adds when and how.
func ended(p phrase, f *fact) phrase {
	return p.text(", ").took(f.past.ago(f.Event)).text(" ago (").text(string(f.past.path)).text(")")
}
