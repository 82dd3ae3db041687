package top

// window is the number of complete seconds over which a rate is averaged.
const window = 10

// rate counts endings per second, for the seconds of the window.
type rate struct {
	newest uint64 // second
	counts [window + 1]uint32
}

func second(ns uint64) uint64 { return ns / 1e9 }

func (r *rate) add(second uint64) {
	r.advance(second)
	r.counts[second%uint64(len(r.counts))]++
}

// advance makes second the newest one, and drops the counts that have left the window by then.
func (r *rate) advance(second uint64) {
	for s := r.newest + 1; s <= second && s <= r.newest+uint64(len(r.counts)); s++ {
		r.counts[s%uint64(len(r.counts))] = 0
	}
	r.newest = max(r.newest, second)
}

// mean returns the endings per second in the complete seconds before now, at most those of the window. Counting began
// in the second began, which is not complete.
func (r *rate) mean(began, now uint64) float64 {
	r.advance(now)
	from := max(began+1, now-min(now, window))
	if from >= now {
		return 0
	}
	sum := uint64(0)
	for s := from; s < now; s++ {
		sum += uint64(r.counts[s%uint64(len(r.counts))])
	}
	return float64(sum) / float64(now-from)
}
