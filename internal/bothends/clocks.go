package bothends

import (
	"cmp"
	"maps"
	"slices"
)

// pair is a joined connection.
type pair struct{ a, b *end }

// estimate is by how much a clock is ahead of another one.
type estimate struct {
	ahead, spread int64 // nanoseconds
	samples       int
}

// measure sets the offsets of the clocks, by the segments that one end sent and the other received. A clock without
// any keeps offset 0. Two clocks without a pair of their own may both have some with a third.
func (j *Join) measure(pairs []pair) {
	samples := map[[2]int32][]int64{} // by clocks: by how much the second is ahead of the first
	for _, p := range pairs {
		low, high := p.a, p.b
		if low.clock > high.clock {
			low, high = high, low
		}
		key := [2]int32{low.clock, high.clock}
		samples[key] = append(samples[key], j.delays(low, high)...)
		for _, s := range j.delays(high, low) {
			samples[key] = append(samples[key], -s)
		}
	}
	for _, c := range j.clocks {
		c.offset, c.found, c.known = 0, estimate{}, c.index == 0
	}
	for {
		from, to, found := j.nearest(samples)
		if to == nil {
			return
		}
		to.known, to.found = true, found
		to.offset = from.offset - found.ahead
		to.found.spread += from.found.spread
	}
}

// nearest returns the unknown clock that has the most samples with a known one.
func (j *Join) nearest(samples map[[2]int32][]int64) (from, to *clock, best estimate) {
	keys := slices.SortedFunc(maps.Keys(samples), func(a, b [2]int32) int { return slices.Compare(a[:], b[:]) })
	for _, key := range keys {
		a, b, all := j.clocks[key[0]], j.clocks[key[1]], samples[key]
		if a.known == b.known || len(all) <= best.samples {
			continue
		}
		from, to, best = a, b, estimateOf(all)
		if b.known {
			from, to, best.ahead = b, a, -best.ahead
		}
	}
	return from, to, best
}

// estimateOf returns the median of samples and its spread.
func estimateOf(samples []int64) estimate {
	middle := median(samples)
	away := make([]int64, len(samples))
	for i, s := range samples {
		away[i] = max(s-middle, middle-s)
	}
	return estimate{middle, median(away), len(samples)}
}

func median(of []int64) int64 {
	sorted := slices.Sorted(slices.Values(of))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return sorted[n/2-1] + (sorted[n/2]-sorted[n/2-1])/2
}

// delays returns by how much later, by its own clock, an end received a FIN or a RST than the other one sent it, less
// half of the round-trip time.
func (j *Join) delays(from, to *end) (all []int64) {
	way := cmp.Or(min(j.srtt(from), j.srtt(to)), max(j.srtt(from), j.srtt(to))) / 2
	if fin := j.finOf(from); fin != nil && !fin.finWaits {
		if at := j.finReceived(to); at != 0 {
			all = append(all, at-fin.at-way)
		}
	}
	if sent := j.resetsOf(from); len(sent) == 1 {
		for _, i := range to.endings {
			if x := &j.endings[i]; x.received() && !x.hasPeer {
				all = append(all, x.at-j.endings[sent[0]].at-way)
			}
		}
	}
	return all
}

// finReceived returns when an end received the FIN of the other one, 0 if that is unknown.
func (j *Join) finReceived(e *end) int64 {
	for _, i := range e.endings {
		if at := j.endings[i].finReceivedAt; at != 0 {
			return at
		}
	}
	return 0
}

// srtt returns the round-trip time that an end measured last, 0 if none.
func (j *Join) srtt(e *end) int64 {
	for _, i := range slices.Backward(e.endings) {
		if rtt := j.endings[i].srtt; rtt != 0 {
			return rtt
		}
	}
	return 0
}
