package classify

import "github.com/closetrace/closetrace/internal/events"

// appRules tell what the application did wrong when a write gave it EPIPE. The
// connection may have ended before; that ending was told when it happened.
var appRules = []rule{
	{
		path: AppWriteAfterShutdown, title: "EPIPE", by: events.TriggerWrite,
		when: func(f *fact) bool {
			return f.afterShutdown() || f.endedAs(ShutdownWrite, ShutdownBoth, ShutdownListen, ShutdownSynSent)
		},
		why: func(p phrase, f *fact) phrase {
			return written(p.text("write after this side shut writing down"), f)
		},
	},
	{
		path: AppWriteAfterReset, title: "EPIPE", by: events.TriggerWrite,
		when: func(f *fact) bool {
			return f.endedAs(RecvRST, ShutdownData, AbortDiag) || f.endedBy("abort") || f.pending(epipe)
		},
		why: func(p phrase, f *fact) phrase {
			return written(p.text("write after the connection was reset"), f)
		},
	},
	{
		path: AppWriteNotConnected, title: "EPIPE", by: events.TriggerWrite,
		when: func(f *fact) bool { return f.before(events.Close, events.Listen) },
		why: func(p phrase, f *fact) phrase {
			return written(p.text("write on a socket that is not connected, or not any more"), f)
		},
	},
}

// sharedRules tell of a close(2) that closed nothing.
var sharedRules = []rule{
	{
		path: AppCloseShared, title: "close, shared", when: always,
		why: func(p phrase, f *fact) phrase {
			p = p.text("the descriptor is closed, the socket is not: ")
			return heldBy(p.count(uint64(f.References), "reference").text(" left"), f)
		},
	},
}

// heldBy says who has the references that are left. A descriptor on its way in a
// message, and a call in progress, stand in nobody's table.
func heldBy(p phrase, f *fact) phrase {
	switch {
	case !f.Searched:
		return p
	case f.Owner == nil:
		return p.text(", in no process's table a moment later: a call in progress holds it, or a message on its way (SCM_RIGHTS), or it was closed meanwhile")
	case f.Owner.PID == f.Task.PID:
		p = p.text(", held by another descriptor of this process")
	default:
		p = p.text(", held by ").task(f.Owner)
	}
	if f.OtherHolders > 0 {
		p = p.text(" and ").number(uint64(f.OtherHolders)).text(" more")
	}
	return p
}

// written says what the application gets, and since when it could have known.
func written(p phrase, f *fact) phrase {
	if f.past != nil {
		p = p.text(", ").took(f.past.ago(f.Event)).text(" before (").text(string(f.past.path)).text(")")
	}
	if f.How != 0 {
		return p.text("; EPIPE and SIGPIPE")
	}
	return p.text("; EPIPE")
}
