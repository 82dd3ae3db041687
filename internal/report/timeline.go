package report

import (
	"math"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// maxBins is how many bins a timeline has at most.
const maxBins = 60

// widths are the widths of bins in milliseconds, from a tenth of a second to a day. Each divides the next. Wider ones
// double.
var widths = []int64{
	100, 500, 1000, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000, 10_800_000, 21_600_000,
	43_200_000, 86_400_000,
}

// timeline counts endings by path in bins of equal width. The bins get wider as the time gets longer, so that their
// number is bounded. The order of endings does not matter.
type timeline struct {
	width       int64 // of a bin in milliseconds; 0: there are none
	first, last int64 // bins, by their begin since the epoch in widths
	counts      map[events.Path]map[int64]uint64
}

// add counts an ending.
func (t *timeline) add(path events.Path, at time.Time) {
	if t.width == 0 {
		t.width, t.counts = widths[0], map[events.Path]map[int64]uint64{}
		t.first, t.last = math.MaxInt64, math.MinInt64
	}
	bin := floor(at.UnixMilli(), t.width)
	first, last := min(t.first, bin), max(t.last, bin)
	t.first, t.last = first, last
	for t.last-t.first >= maxBins {
		t.widen()
	}
	if t.counts[path] == nil {
		t.counts[path] = map[int64]uint64{}
	}
	t.counts[path][floor(at.UnixMilli(), t.width)]++
}

// widen joins bins.
func (t *timeline) widen() {
	wider := 2 * t.width
	for _, w := range widths {
		if w > t.width {
			wider = w
			break
		}
	}
	by := wider / t.width
	for path, bins := range t.counts {
		joined := map[int64]uint64{}
		for bin, n := range bins {
			joined[floor(bin, by)] += n
		}
		t.counts[path] = joined
	}
	t.width, t.first, t.last = wider, floor(t.first, by), floor(t.last, by)
}

// bins returns the number of bins.
func (t *timeline) bins() int {
	if t.width == 0 {
		return 0
	}
	return int(t.last-t.first) + 1
}

// begin returns when a bin begins, of which 0 is the first.
func (t *timeline) begin(bin int) time.Time { return time.UnixMilli((t.first + int64(bin)) * t.width) }

// of returns the counts of a path in each bin.
func (t *timeline) of(path events.Path) []uint64 {
	counts := make([]uint64, t.bins())
	for bin, n := range t.counts[path] {
		counts[bin-t.first] = n
	}
	return counts
}

// floor returns the quotient of a and b, which is positive, rounded down.
func floor(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
