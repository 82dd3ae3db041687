package classify

import "github.com/closetrace/closetrace/internal/events"

// rejectRules are for a RST that netfilter sends. Its rule decides, whatever sockets there are.
var rejectRules = []rule{
	{
		path: events.ReplyNetfilter, by: events.TriggerSegment, when: always,
		why: func(p phrase, f *fact) phrase {
			p = p.text("netfilter's REJECT in ").text(f.NetfilterHook).text(" rejects ").segment(f)
			if f.NetfilterHook != "INPUT" {
				p = p.text("; the RST bears the destination's address, and the destination did not send it")
			}
			return p
		},
	},
}
