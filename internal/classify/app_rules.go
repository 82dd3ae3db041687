package classify

import "github.com/closetrace/closetrace/internal/events"

// appRules are for a write that failed with EPIPE. The connection may have ended before; that
// ending was reported then.
var appRules = []rule{
	{
		path: events.AppWriteAfterShutdown, by: events.TriggerWrite, when: writingShutDown,
		why: func(p phrase, f *fact) phrase { return failed(p.text("write after this side shut down writing"), f) },
	},
	{
		path: events.AppWriteAfterReset, by: events.TriggerWrite, when: connectionReset,
		why: func(p phrase, f *fact) phrase { return failed(p.text("write after the connection was reset"), f) },
	},
	{
		path: events.AppWriteNotConnected, by: events.TriggerWrite, when: notConnected,
		why: func(p phrase, f *fact) phrase {
			return failed(p.text("write on a socket that is not connected, or no longer"), f)
		},
	},
}

// written says what the application gets, and since when it could have known.
func failed(p phrase, f *fact) phrase {
	if f.past != nil {
		p = p.text(", ").duration(f.past.ago(f.Event)).text(" earlier (").text(string(f.past.path)).text(")")
	}
	if f.How != 0 {
		return p.text("; EPIPE and SIGPIPE")
	}
	return p.text("; EPIPE")
}

// sharedRules are for a close(2) that leaves the socket open.
var sharedRules = []rule{
	{
		path: events.AppCloseShared, when: always,
		why: func(p phrase, f *fact) phrase {
			p = p.text("descriptor closed, socket still open: ")
			return holders(p.count(uint64(f.References), "reference").text(" left"), f)
		},
	},
}

// heldBy says who has the references that are left. A descriptor on its way in a
// message, and a call in progress, are in no descriptor table.
func holders(p phrase, f *fact) phrase {
	switch {
	case !f.Searched:
		return p
	case f.Owner == nil:
		p = p.text(", in no descriptor table a moment later: held by a call in progress")
		return p.text(" or a message in flight (SCM_RIGHTS), or closed since")
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
