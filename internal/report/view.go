package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/ladder"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/why"
)

// Limits of what a report shows.
const (
	maxGroups   = 200
	maxSteps    = 24 // of a ladder
	maxVerdicts = 100
	maxHooks    = 50
	maxRemarks  = 100
)

// view is what a report shows, in each format. All texts are safe to print.
type view struct {
	Options
	Title, Period string
	Figures       []figure
	Chart         *chart
	Groups        []group
	More          string // about groups that are left out
	Verdicts      []verdict
	Ordinary      []figure
	Joined        []string // how recordings were joined
	Recordings    []recording
	MoreFiles     string

	library *explain.Library
	day     string // layout of a time
}

// figure is a number and what it counts.
type figure struct {
	Count, Name string
}

// group is a row of the table.
type group struct {
	Count, Process, Service, Peer, Path, First, Last, Why, Severity string
}

// verdict is a section about a path.
type verdict struct {
	Path, Title, Count string
	Spark              *chart
	Follows            string // from this path, which has a ladder
	Ladder             *ladder.Model
	Cut                string // what the ladder leaves out
	Reasons, Gets      []string
	Avoid              string
}

// recording is how a recording was made.
type recording struct {
	Facts   []figure // Count is empty or the value
	Remarks []string
}

// word returns a word of the report.
func (v *view) word(key string) string { return words[v.Language][key] }

// counted returns the word for what a number counts.
func (v *view) counted(n, key string) string {
	if one := v.word(key + ".one"); n == "1" && one != "" {
		return one
	}
	return v.word(key)
}

// phrase returns a phrase of the report with its values.
func (v *view) phrase(key string, values ...any) string { return fmt.Sprintf(v.word(key), values...) }

// say returns a sentence of closetrace in the language of the report.
func (v *view) say(text string) string {
	if v.Say != nil {
		text = v.Say(text)
	}
	return text
}

// view returns what the report shows.
func (c *Collector) view(o Options) (*view, error) {
	library, err := explain.Open()
	if err != nil {
		return nil, err
	}
	o.Language = cmp.Or(o.Language, explain.English)
	o.Version = sink.Tame(o.Version)
	v := &view{Options: o, library: library, day: "01-02 " + time.TimeOnly}
	if c.first.Local().Format(time.DateOnly) == c.last.Local().Format(time.DateOnly) {
		v.day = time.TimeOnly
	}
	v.head(c)
	v.groups(c)
	for _, p := range c.summary.Paths() {
		if p.Ordinary > 0 {
			v.Ordinary = append(v.Ordinary, figure{events.Grouped(p.Ordinary), sink.Tame(string(p.Path))})
		}
	}
	v.recordings(c)
	return v, nil
}

// head sets the title, the period and the totals.
func (v *view) head(c *Collector) {
	v.Title = v.word("title")
	var hosts []string
	for _, r := range c.recordings {
		if host := sink.Tame(r.header.Host); host != "" && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	if len(hosts) > 0 {
		v.Title += v.phrase("on", strings.Join(hosts, ", "))
	}
	if !c.first.IsZero() {
		const long = "2006-01-02 15:04:05 MST"
		v.Period = v.phrase("to", c.first.Local().Format(long), c.last.Local().Format(long))
	}
	f := c.summary.Figures()
	for _, n := range []struct {
		count  uint64
		key    string
		always bool
	}{
		{f.Endings, "endings", true},
		{c.abnormal, "abnormal", true},
		{f.RSTSent, "rst.sent", true},
		{f.RSTReceived, "rst.received", true},
		{f.FINSent, "fin.sent", true},
		{c.leftOut, "filtered", false},
	} {
		if n.always || n.count > 0 {
			count := events.Grouped(n.count)
			v.Figures = append(v.Figures, figure{count, v.counted(count, n.key)})
		}
	}
}

// groups sets the table of what needs attention, the sections of its paths, and the chart.
func (v *view) groups(c *Collector) {
	all := c.summary.Groups(v.say)
	counts := map[events.Path]uint64{}
	var paths []events.Path // the most important first
	var left uint64
	for i, g := range all {
		if counts[g.Path] += g.Endings; !slices.Contains(paths, g.Path) {
			paths = append(paths, g.Path)
		}
		if i >= maxGroups {
			left += g.Endings
			continue
		}
		severity := "notable"
		if g.Severity == events.Severe {
			severity = "severe"
		}
		v.Groups = append(v.Groups, group{
			Count: events.Grouped(g.Endings), Process: g.Process, Service: g.Service, Peer: g.Peer,
			Path: sink.Tame(string(g.Path)), First: v.clock(g.First), Last: v.clock(g.Last), Why: g.Why,
			Severity: severity,
		})
	}
	if left > 0 {
		groups := events.Grouped(uint64(len(all) - maxGroups))
		v.More = fmt.Sprintf(v.counted(groups, "more"), events.Grouped(left), groups)
	}
	v.Chart = v.chart(&c.timeline, counts)
	examples := map[events.Path]*why.Example{}
	paths = paths[:min(len(paths), maxVerdicts)]
	for _, path := range paths {
		examples[path] = c.sample.Example(path)
	}
	for _, path := range paths {
		s := v.verdict(path, examples)
		s.Count, s.Spark = events.Grouped(counts[path]), v.Chart.spark(&c.timeline, path)
		v.Verdicts = append(v.Verdicts, s)
	}
}

func (v *view) clock(t time.Time) string { return t.Local().Format(v.day) }

// verdict returns the section of a path. If its example is only a consequence of another path, which has an example,
// it refers to that.
func (v *view) verdict(path events.Path, examples map[events.Path]*why.Example) verdict {
	s := verdict{
		Path: sink.Tame(string(path)), Title: v.library.Title(string(path), v.Language),
		Avoid: v.library.Avoid(string(path), v.Language),
	}
	x := examples[path]
	if x == nil {
		return s
	}
	if other := examples[x.Cause]; x.Cause != path && other != nil && other.Cause == x.Cause {
		s.Follows, s.Avoid = sink.Tame(string(x.Cause)), ""
		return s
	}
	model := *x.Ladder
	if more := len(model.Steps) - maxSteps; more > 0 {
		count := events.Grouped(uint64(more))
		model.Steps, s.Cut = model.Steps[:maxSteps], fmt.Sprintf(v.counted(count, "cut"), count)
	}
	s.Ladder = &model
	for _, text := range x.Reasons[:min(len(x.Reasons), maxSteps)] {
		s.Reasons = append(s.Reasons, v.say(text))
	}
	for _, text := range x.Applications {
		s.Gets = append(s.Gets, v.say(text))
	}
	return s
}

// recordings sets how the recordings were made.
func (v *view) recordings(c *Collector) {
	for _, line := range c.joined[:min(len(c.joined), maxRemarks)] {
		v.Joined = append(v.Joined, sink.Tame(v.say(line)))
	}
	for i := range c.recordings {
		r := &c.recordings[i]
		missing := v.word("nomissing")
		if names := r.header.Missing; len(names) > 0 {
			missing = strings.Join(names[:min(len(names), maxHooks)], ", ")
		}
		one := recording{Facts: []figure{
			{cmp.Or(r.header.Host, "-"), v.word("host")}, {r.header.Kernel, v.word("kernel")},
			{r.header.Attach, v.word("mode")}, {events.Grouped(uint64(len(r.header.Hooks))), v.word("hooks")},
			{missing, v.word("missing")}, {r.took.Round(time.Millisecond).String(), v.word("duration")},
		}}
		for j := range one.Facts {
			one.Facts[j].Count = sink.Tame(one.Facts[j].Count)
		}
		for _, line := range r.remarks[:min(len(r.remarks), maxRemarks)] {
			one.Remarks = append(one.Remarks, v.say(line))
		}
		v.Recordings = append(v.Recordings, one)
	}
	if more := len(v.Files) - maxRecordings; more > 0 {
		count := events.Grouped(uint64(more))
		v.MoreFiles = fmt.Sprintf(v.counted(count, "morefiles"), count)
		v.Files = v.Files[:maxRecordings]
	}
	files := slices.Clone(v.Files)
	for i, file := range files {
		files[i] = sink.Tame(file)
	}
	v.Files = files
}
