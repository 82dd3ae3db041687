package report

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink"
)

// maxSeries is how many paths have a colour of their own. The others share one.
const maxSeries = 5

// The measures of a chart in its units. It is stretched to the width of the page.
const (
	barWidth    = 10
	barGap      = 1
	chartHeight = 1000
	leastBins   = 12 // that a chart has space for
)

// chart is endings over time as stacked bars, and as a table.
type chart struct {
	About       string // the width of a bar, the period and the highest bar
	First, Last string
	Width       int
	Series      []series
	Bars        []bar
	Rows        []chartRow // of bins that are not empty
}

// series is a path in a chart.
type series struct {
	Class int
	figure
}

// bar is the part of a bar that one series has.
type bar struct {
	Class, X, Y, Width, Height int
	Label                      string
}

// chartRow is the numbers of a bin.
type chartRow struct {
	Begin  string
	Counts []string
}

// chart returns the chart of all paths, nil if there are no endings.
func (v *view) chart(t *timeline, totals map[events.Path]uint64) *chart {
	if t.bins() == 0 {
		return nil
	}
	paths := make([]events.Path, 0, len(totals))
	for path := range totals {
		paths = append(paths, path)
	}
	slices.SortFunc(paths, func(a, b events.Path) int {
		return cmp.Or(cmp.Compare(totals[b], totals[a]), cmp.Compare(a, b))
	})
	g := &chart{Width: max(t.bins(), leastBins) * barWidth}
	var counts [][]uint64 // by series
	for i, path := range paths {
		n := min(i, maxSeries)
		if n == len(counts) {
			counts = append(counts, make([]uint64, t.bins()))
			g.Series = append(g.Series, series{n, figure{Name: sink.Tame(string(path))}})
		}
		for bin, count := range t.of(path) {
			counts[n][bin] += count
		}
	}
	if len(paths) > maxSeries+1 {
		g.Series[maxSeries].Name = v.word("others")
	}
	for i := range g.Series {
		g.Series[i].Count = events.Grouped(sum(counts[i]))
	}
	g.draw(v, t, counts)
	return g
}

// draw adds the bars and the rows.
func (g *chart) draw(v *view, t *timeline, counts [][]uint64) {
	heights := make([]uint64, t.bins())
	for _, of := range counts {
		for bin, n := range of {
			heights[bin] += n
		}
	}
	highest := slices.Max(heights)
	layout := v.binLayout(t)
	for bin, height := range heights {
		if height == 0 {
			continue
		}
		begin := t.begin(bin).Local().Format(layout)
		row := chartRow{Begin: begin}
		below := uint64(0)
		for i, of := range counts {
			row.Counts = append(row.Counts, events.Grouped(of[bin]))
			if of[bin] > 0 {
				g.bar(i, bin, below, of[bin], highest, begin+": "+events.Grouped(of[bin])+" "+g.Series[i].Name)
			}
			below += of[bin]
		}
		g.Rows = append(g.Rows, row)
	}
	g.First = t.begin(0).Local().Format(layout)
	g.Last = t.begin(max(t.bins(), leastBins)).Local().Format(layout)
	top := t.begin(slices.Index(heights, highest)).Local().Format(layout)
	g.About = v.phrase("bin", v.span(t.width), g.First, g.Last, events.Grouped(highest), top)
}

// span returns the width of a bin of some milliseconds.
func (v *view) span(ms int64) string {
	for _, unit := range []struct {
		ms  int64
		key string
	}{{86_400_000, "day"}, {3_600_000, "hour"}, {60_000, "minute"}, {1000, "second"}} {
		if ms%unit.ms == 0 {
			return strconv.FormatInt(ms/unit.ms, 10) + " " + v.word(unit.key)
		}
	}
	return strconv.FormatInt(ms, 10) + " " + v.word("millisecond")
}

// bar adds a part of a bar above others, which is at least high enough to be seen.
func (g *chart) bar(class, bin int, below, n, highest uint64, label string) {
	y := func(n uint64) int { return int(float64(n) / float64(highest) * chartHeight) }
	low, high := y(below), max(y(below+n), y(below)+5)
	g.Bars = append(g.Bars, bar{
		Class: class, X: bin * barWidth, Y: chartHeight - high, Width: barWidth - barGap, Height: high - low, Label: label,
	})
}

// binLayout returns the layout of the begin of a bin, as short as possible.
func (v *view) binLayout(t *timeline) string {
	layout := "15:04"
	if t.width < 60_000 {
		layout = time.TimeOnly
	}
	if t.width < 1000 {
		layout = "15:04:05.0"
	}
	if v.day != time.TimeOnly {
		layout = time.DateOnly + " " + layout
	}
	return layout
}

// spark returns the chart of one path, in the colour that it has in the chart of all.
func (all *chart) spark(t *timeline, path events.Path) *chart {
	class := slices.IndexFunc(all.Series, func(s series) bool { return s.Name == sink.Tame(string(path)) })
	if class < 0 {
		class = maxSeries
	}
	counts := t.of(path)
	if sum(counts) == 0 {
		return nil
	}
	g := &chart{Width: max(t.bins(), leastBins) * barWidth}
	highest := slices.Max(counts)
	for bin, n := range counts {
		if n > 0 {
			g.bar(class, bin, 0, n, highest, "")
		}
	}
	return g
}

func sum(counts []uint64) (sum uint64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}
