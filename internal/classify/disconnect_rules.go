package classify

import "github.com/closetrace/closetrace/internal/events"

// disconnectRules are for connect(AF_UNSPEC).
var disconnectRules = []rule{
	{
		path: events.DisconnectListen, when: inListen,
		why: func(p phrase, f *fact) phrase {
			return queueReset(p.text("connect(AF_UNSPEC) on a listener; it stops listening"), f)
		},
	},
	{
		path: events.AbortMPTCP, when: subflowReset,
		why: mptcpReset,
	},
	{
		path: events.DisconnectRSTUnsent, when: resetAfterBothFINs,
		why: func(p phrase, f *fact) phrase {
			return p.text("connect(AF_UNSPEC) in ").state(f.Before).text(" with unsent output").discarded(f.Event)
		},
	},
	{
		path: events.DisconnectRST, when: sentRST,
		why: func(p phrase, f *fact) phrase {
			return p.text("connect(AF_UNSPEC) in ").state(f.Before).discarded(f.Event)
		},
	},
	{
		path: events.DisconnectSilent, when: always,
		why: func(p phrase, f *fact) phrase {
			return p.text("connect(AF_UNSPEC) in ").state(f.Before).text("; neither FIN nor RST").discarded(f.Event)
		},
	},
}
