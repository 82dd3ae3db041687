package classify

import "github.com/closetrace/closetrace/internal/events"

// closedRules are for the close of a socket that had ended before. Nothing is sent; the rules say
// what ended it. What was seen to end it comes before what the socket still shows.
var closedRules = []rule{
	{
		path: events.ClosedICMP, when: endedByICMP,
		why: func(p phrase, f *fact) phrase { return ended(p.text("an ICMP error ended the connection"), f) },
	},
	{
		path: events.ClosedConnect, when: endedWhileConnecting,
		why: func(p phrase, f *fact) phrase { return ended(p.text("connect(2) failed"), f) },
	},
	{
		path: events.ClosedDisconnected, when: endedByDisconnect,
		why: func(p phrase, f *fact) phrase { return ended(p.text("disconnected"), f) },
	},
	{
		path: events.ClosedReset, when: endedByRST,
		why: func(p phrase, f *fact) phrase { return ended(p.text("connection reset"), f) },
	},
	{
		path: events.ClosedAborted, when: endedBySockDiag,
		why: func(p phrase, f *fact) phrase { return ended(p.text("connection killed"), f) },
	},
	{
		path: events.ClosedTimeout, when: endedByTimer,
		why: func(p phrase, f *fact) phrase { return ended(p.text("connection timed out"), f) },
	},
	{
		path: events.ClosedDisconnected, when: hasDisconnectError,
		why: func(p phrase, f *fact) phrase { return p.text("disconnected earlier; ECONNRESET never read") },
	},
	{
		path: events.ClosedReset, when: hasResetError,
		why: func(p phrase, f *fact) phrase {
			return p.text("connection reset earlier; ").text(errno(f.SockErr)).text(" never read")
		},
	},
	{
		path: events.ClosedConnect, when: hasRefusedError,
		why: func(p phrase, f *fact) phrase { return p.text("connect(2) failed earlier; ECONNREFUSED never read") },
	},
	{
		path: events.ClosedTimeout, when: hasTimeoutError,
		why: func(p phrase, f *fact) phrase { return p.text("connection timed out earlier; ETIMEDOUT never read") },
	},
	{
		path: events.ClosedAborted, when: hasAbortError,
		why: func(p phrase, f *fact) phrase { return p.text("connection killed earlier; ECONNABORTED never read") },
	},
	{
		path: events.ClosedLastAck, when: sentFINSecond,
		why: func(p phrase, f *fact) phrase {
			return ended(p.text("both sides sent a FIN, the peer first, this side"), f)
		},
	},
	{
		path: events.ClosedTimeWait, when: sentFINFirst,
		why: func(p phrase, f *fact) phrase {
			return ended(p.text("both sides sent a FIN, this side first,"), f)
		},
	},
	{
		path: events.ClosedNever, when: neverConnected,
		why: func(p phrase, f *fact) phrase { return p.text("never connected") },
	},
	{
		path: events.CloseSilentClosed, when: receivedFIN,
		why: func(p phrase, f *fact) phrase {
			return p.text("the peer's FIN had come; what ended the connection was not seen")
		},
	},
	{
		path: events.CloseSilentClosed, when: always,
		why: func(p phrase, f *fact) phrase {
			return p.text("already closed; cause not observed")
		},
	},
}

// ended adds when and by which path a socket ended.
func ended(p phrase, f *fact) phrase {
	return p.text(" ").duration(f.past.ago(f.Event)).text(" ago (").text(string(f.past.path)).text(")")
}
