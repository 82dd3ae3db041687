package classify

import (
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// A verdict that rests on something not having happened in a time, or on what was
// seen last, is inferred if records were lost or probes were missed in that time.

// maxLosses bounds the spans that are remembered. If there are more, the two oldest
// become one, with the time between them.
const maxLosses = 256

// losses are the spans of time of which something is missing, in order.
type losses []span

type span struct{ from, to uint64 } // CLOCK_MONOTONIC

// add adds the span of a loss.
func (l *losses) add(ev *events.Event) {
	s := span{ev.MonoNS - min(ev.DurationNS, ev.MonoNS), ev.MonoNS}
	all := *l
	for n := len(all); n > 0 && all[n-1].to >= s.from; n = len(all) {
		s = span{min(s.from, all[n-1].from), max(s.to, all[n-1].to)}
		all = all[:n-1]
	}
	if all = append(all, s); len(all) > maxLosses {
		all[1].from = all[0].from
		all = append(all[:0], all[1:]...)
	}
	*l = all
}

// lose takes note of a loss. RSTs in reply that the rate limit leaves out are none: no verdict rests on them.
func (c *Classifier) lose(ev *events.Event) {
	c.repliesLeftOut += uint64(ev.RepliesLeftOut)
	if ev.LostRecords+ev.MissedProbes > 0 {
		c.losses.add(ev)
	}
}

// between reports whether something is missing of a span of time.
func (l losses) between(from, to uint64) bool {
	for i := len(l) - 1; i >= 0 && l[i].to >= from; i-- {
		if l[i].from <= to {
			return true
		}
	}
	return false
}

const lost = "records were lost or probes missed meanwhile: "

// restsOn lists what a loss leaves in doubt. Each has the time in which nothing
// may be missing.
var restsOn = []struct {
	when  func(*fact, events.Path) bool
	time  func(*fact) span
	doubt string
}{
	{
		func(f *fact, _ events.Path) bool { return f.Kind == events.KindPeerFIN && f.PeerFINAgoNS > 0 },
		func(f *fact) span { return f.following(time.Duration(f.PeerFINAgoNS)) },
		lost + "a close by this side may be among them",
	},
	{
		func(f *fact, _ events.Path) bool { return f.past != nil },
		func(f *fact) span { return span{min(f.past.monoNS, f.MonoNS), f.MonoNS} },
		lost + "a later ending of this connection or socket may be among them",
	},
	{
		func(f *fact, p events.Path) bool { return f.isAfterEnd(p) && f.past == nil },
		(*fact).sinceActive,
		lost + "what ended the connection may be among them",
	},
	{
		func(f *fact, _ events.Path) bool { return f.peer != nil && f.peer.identity == (identity{}) },
		func(f *fact) span { return span{f.MonoNS - min(f.MonoNS, uint64(peerWindow)), f.MonoNS} },
		lost + "the RST of another connection may be among them",
	},
	{
		// In tracepoint mode.
		func(f *fact, _ events.Path) bool { return f.Kind == events.KindClose && f.mayContinue() },
		func(f *fact) span { return f.following(joinWindow) },
		lost + "a RST after the FIN may be among them",
	},
	{
		// Data after both directions were shut down ends a socket like a RST does.
		func(f *fact, p events.Path) bool { return p == events.RecvRST && f.ShutdownMask&1 != 0 },
		func(f *fact) span { return f.following(ownerWindow) },
		lost + "a RST in reply to data may be among them",
	},
	{
		func(_ *fact, p events.Path) bool { return p == events.CloseListenMigrated },
		func(f *fact) span { return f.following(time.Duration(f.DurationNS)) },
		lost + "resets of connections in the accept queue may be among them",
	},
	{
		func(f *fact, _ events.Path) bool { return f.OwnerDoubt },
		func(f *fact) span { return span{f.MonoNS, f.MonoNS + uint64(ownerWindow)} },
		lost + "the owner is that of a later call at the same address, which may be on another socket",
	},
}

// afterLoss returns what losses leave in doubt about a verdict, or "".
func afterLoss(f *fact, p events.Path) string {
	if len(f.losses) == 0 {
		return ""
	}
	for i := range restsOn {
		r := &restsOn[i]
		if !r.when(f, p) {
			continue
		}
		if t := r.time(f); f.losses.between(t.from, t.to) {
			return r.doubt
		}
	}
	return ""
}

// following returns a time from the event on.
func (f *fact) following(d time.Duration) span { return span{f.MonoNS, f.MonoNS + uint64(d)} }

// sinceActive returns the time since the last byte was sent or received, before
// which the connection had not ended. If that is unknown, it is all time.
func (f *fact) sinceActive() span {
	active := f.IdleReceivedJiffies
	if active == 0 || f.IdleSentJiffies > 0 && f.IdleSentJiffies < active {
		active = f.IdleSentJiffies
	}
	if active == 0 || f.hz == 0 {
		return span{0, f.MonoNS}
	}
	since := uint64(f.duration(uint64(active) + 1))
	return span{f.MonoNS - min(f.MonoNS, since), f.MonoNS}
}

// doubtOwner marks the owner that a later call named, if that may be a call on
// another socket at the same address, whose predecessor was closed unseen.
func (c *Classifier) doubtOwner(ended, call *events.Event) {
	a, b := identityOf(ended), identityOf(call)
	proven := a.sent != 0 && b.sent != 0 && a.received != 0 && b.received != 0 && a.mayBe(b)
	ended.OwnerDoubt = !proven && c.losses.between(ended.MonoNS, call.MonoNS)
}
