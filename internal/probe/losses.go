//go:build linux && (amd64 || arm64)

package probe

import (
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
)

// runsEvery is how often it is looked whether programs did not run. That asks the kernel about each program and link;
// the counters of the programs themselves are read more often, and in time for each event.
const runsEvery = time.Second

// noticed is what of the losses was reported as an event.
type noticed struct {
	records, noMemory, runs uint64
	suppressed              uint64
	at, runsAt              uint64 // when the counters were read, CLOCK_MONOTONIC
}

// beginNoticing begins to count and to notice losses, and the closes that the kernel side counts: what was lost or
// counted before counts for nothing.
func (p *Probe) beginNoticing() {
	now := kernel.MonoNow()
	p.noticed = noticed{
		records:  p.count(bpfCounterCOUNT_LOST),
		noMemory: p.count(bpfCounterCOUNT_NO_MEMORY),
		runs:     p.missedRuns(), at: now, runsAt: now,
		suppressed: p.count(bpfCounterCOUNT_SUPPRESSED),
	}
	n := &p.noticed
	p.lostBefore = events.Losses{LostRecords: n.records, MissedProbes: n.noMemory + n.runs, Suppressed: n.suppressed}
	if p.quiet != nil {
		p.quiet.before = p.counted()
	}
}

// noticeLoss reports whether anything was lost, or left out on purpose, since it was called last. It sets ev to that.
func (p *Probe) noticeLoss(ev *events.Event) bool {
	n := &p.noticed
	since := n.at
	n.at = kernel.MonoNow() // before reading, because the time of the next loss begins here
	records, noMemory := p.count(bpfCounterCOUNT_LOST), p.count(bpfCounterCOUNT_NO_MEMORY)
	lost := grown(&n.records, records)
	missed := grown(&n.noMemory, noMemory)
	if n.at-n.runsAt >= uint64(runsEvery) || p.ended.Load() != 0 {
		if by := grown(&n.runs, p.missedRuns()); by > 0 {
			missed, since = missed+by, min(since, n.runsAt)
		}
		n.runsAt = n.at
	}
	suppressed := grown(&n.suppressed, p.count(bpfCounterCOUNT_SUPPRESSED))
	if lost+missed+suppressed == 0 {
		return false
	}
	now := kernel.MonoNow()
	*ev = events.Event{
		Kind: events.KindLoss, MonoNS: now, DurationNS: now - since,
		LostRecords: uint32(lost), MissedProbes: uint32(missed), RepliesLeftOut: uint32(suppressed),
	}
	return true
}

// growth returns by how much a counter has grown: a detached program may report fewer misses than before.
func growth(before, now uint64) uint64 { return max(before, now) - before }

// grown sets a counter, and returns by how much it has grown.
func grown(counter *uint64, now uint64) uint64 {
	by := growth(*counter, now)
	*counter += by
	return by
}
