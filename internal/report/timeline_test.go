package report

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

func at(ms int64) time.Time { return time.UnixMilli(ms) }

// Bins get wider as the time gets longer, in any order, and nothing is lost.
func TestTimeline(t *testing.T) {
	for _, tt := range []struct {
		name  string
		times []int64
		width int64
		bins  int
	}{
		{"one", []int64{1234}, 100, 1},
		{"the last that fits", []int64{0, 5999}, 100, 60},
		{"the first that does not fit", []int64{0, 6000}, 500, 13},
		{"backwards", []int64{6000, 0}, 500, 13},
		{"before the epoch", []int64{-1, 0}, 100, 2},
		{"a day", []int64{0, 86_400_000}, 1_800_000, 49},
		{"a year", []int64{0, 365 * 86_400_000}, 8 * 86_400_000, 46},
	} {
		var line timeline
		for _, ms := range tt.times {
			line.add(events.RecvRST, at(ms))
		}
		if line.width != tt.width || line.bins() != tt.bins || sum(line.of(events.RecvRST)) != uint64(len(tt.times)) {
			t.Errorf("%s: width %d, %d bins, %v", tt.name, line.width, line.bins(), line.of(events.RecvRST))
		}
	}
}

func TestTimelineCounts(t *testing.T) {
	var line timeline
	for _, ms := range []int64{1000, 1099, 1100, 1350} {
		line.add(events.RecvRST, at(ms))
	}
	line.add(events.RecvFIN, at(900))
	if got := line.of(events.RecvRST); !slices.Equal(got, []uint64{0, 2, 1, 0, 1}) || !line.begin(0).Equal(at(900)) {
		t.Errorf("%v from %v", got, line.begin(0))
	}
	if got := line.of(events.CloseRSTUnread); sum(got) != 0 {
		t.Errorf("%v of a path without endings", got)
	}
}

// The times of a hostile recording do not make it run for long.
func TestTimelineOfAnyTime(t *testing.T) {
	var line timeline
	for _, ns := range []int64{0, math.MinInt64, math.MaxInt64, 1} {
		line.add(events.RecvRST, time.Unix(0, ns))
	}
	if n := line.bins(); n > maxBins || n == 0 || sum(line.of(events.RecvRST)) != 4 {
		t.Errorf("%d bins", n)
	}
}
