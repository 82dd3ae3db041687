package classify

import "github.com/closetrace/closetrace/internal/events"

// abortRules are for SOCK_DESTROY.
var abortRules = []rule{
	{
		path: events.AbortDiagListen, by: events.TriggerNetlink, when: inListen,
		why: func(p phrase, f *fact) phrase { return queueReset(p.text("SOCK_DESTROY (ss -K) on a listener"), f) },
	},
	{
		path: events.AbortDiag, title: "killed → RST", by: events.TriggerNetlink,
		when: sentRST,
		why: func(p phrase, f *fact) phrase {
			return killed(p, f).discarded(f.Event)
		},
	},
	{
		path: events.AbortDiag, by: events.TriggerNetlink, when: always,
		why: func(p phrase, f *fact) phrase {
			return p.text("SOCK_DESTROY (ss -K) in ").state(f.Before).text("; neither FIN nor RST")
		},
	},
}

// killed says what the application gets of SOCK_DESTROY.
func killed(p phrase, f *fact) phrase {
	p = p.text("SOCK_DESTROY (ss -K) in ").state(f.Before)
	switch {
	case isOrphan(f), lingers(f):
		return p
	case peerFinished(f):
		return p.endOfFile(f, "ECONNABORTED")
	}
	return p.text("; the application gets ECONNABORTED")
}
