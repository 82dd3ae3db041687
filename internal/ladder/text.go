package ladder

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/sink/table"
)

// The widths of parts of a line, in cells.
const (
	gap          = 2
	arrowWidth   = 26
	narrowArrow  = 16
	leastColumn  = 10
	leastDrawing = 60
)

// Layout configures a drawing.
type Layout struct {
	Width  int // of a line, in cells; 0: no limit
	Indent int
	ASCII  bool // the terminal has no other characters
	// NotKept: what was seen of an end that the ladder lacks may not have been kept.
	NotKept bool
	// Say returns a sentence in the language of the reader. Nil: sentences are in English.
	Say func(string) string
}

// Said returns a sentence in the language of the reader.
func (o Layout) Said(text string) string {
	if o.Say == nil {
		return text
	}
	return o.Say(text)
}

// Plain returns text in ASCII, as far as closetrace itself uses other characters, if the layout asks for it.
func (o Layout) Plain(text string) string {
	if o.ASCII {
		return ascii.Replace(text)
	}
	return text
}

var ascii = strings.NewReplacer("→", "->", "µ", "u", "×", "x", "…", "...", "–", "-", "—", "-")

// OnlyASCII reports whether the locale in the environment has no arrows. One that is not set is no statement.
func OnlyASCII(getenv func(string) string) bool {
	locale := cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG"))
	_, charset, _ := strings.Cut(strings.ToLower(locale), ".")
	charset, _, _ = strings.Cut(charset, "@")
	return locale != "" && strings.ReplaceAll(charset, "-", "") != "utf8"
}

// Text draws the ladder: the ends are columns, and time runs downwards. A line is at most as wide as the layout says,
// but not narrower than 60 cells.
func (m *Model) Text(o Layout) string { return m.drawing(o).String() }

// drawing returns the rows of the ladder: the heads of the columns, then the steps.
func (m *Model) drawing(o Layout) *drawing {
	d := &drawing{Layout: o}
	head := row{}
	for side, end := range m.Ends {
		for _, text := range []string{end.Host, end.Name, end.Process} {
			if text != "" {
				head.acts[side] = append(head.acts[side], d.safe(text))
			}
		}
		switch {
		case end.Unseen && o.NotKept:
			head.acts[side] = append(head.acts[side], d.Said("not kept"))
		case end.Unseen:
			head.acts[side] = append(head.acts[side], d.Said("not seen"))
		}
	}
	d.rows = append(d.rows, head)
	for i := range m.Steps {
		step := &m.Steps[i]
		r := row{segments: slices.Clone(step.Segments)}
		for n := range r.segments {
			r.segments[n].Label = d.Said(r.segments[n].Label)
		}
		if !step.At.IsZero() {
			r.time = d.Plain(timeOf(step.At, m.Steps[0].At, i == 0))
		}
		for side := range step.Acts {
			r.acts[side] = d.lines(&step.Acts[side])
		}
		d.rows = append(d.rows, r)
	}
	return d
}

// timeOf returns the time of day, or how long it is after the first step.
func timeOf(at, first time.Time, isFirst bool) string {
	if isFirst {
		return at.Local().Format("15:04:05.000")
	}
	return "+" + Span(at.Sub(first))
}

// Span returns a duration rounded for reading: 19 µs, 50.3 ms, 3.0 s.
func Span(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1e3)
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// row is a step: several lines in each column.
type row struct {
	time     string
	acts     [2][]string
	segments []Segment
}

// drawing lays out rows.
type drawing struct {
	Layout
	rows []row
}

// safe returns text that does nothing to a terminal.
func (d *drawing) safe(text string) string { return d.Plain(sink.Tame(text)) }

// lines returns the lines of an act.
func (d *drawing) lines(a *Act) []string {
	var lines []string
	add := func(text string) {
		if text != "" {
			lines = append(lines, d.safe(d.Said(text)))
		}
	}
	add(a.What)
	if a.Before != a.After && a.After != events.StateUnknown {
		if a.Before == events.StateUnknown {
			add(a.After.String())
		} else {
			add(a.Before.String() + " → " + a.After.String())
		}
	}
	for _, fact := range a.Facts {
		add(fact)
	}
	add(a.Got)
	return lines
}

// String returns the drawing.
func (d *drawing) String() string {
	times, arrows, columns := d.widths()
	var b strings.Builder
	for i := range d.rows {
		r := &d.rows[i]
		var acts [2][]string
		for side, lines := range r.acts {
			for _, line := range lines {
				acts[side] = append(acts[side], wrap(line, columns[side])...)
			}
		}
		for line := range max(1, len(acts[Left]), len(acts[Right]), len(r.segments)) {
			text := strings.Repeat(" ", d.Indent)
			if times > 0 {
				text += pad(at([]string{r.time}, line), times+gap)
			}
			arrow := ""
			if line < len(r.segments) {
				arrow = r.segments[line].arrow(arrows)
			}
			text += pad(at(acts[Left], line), columns[Left]+gap) + pad(arrow, arrows+gap) + at(acts[Right], line)
			b.WriteString(strings.TrimRight(text, " ") + "\n")
		}
	}
	return b.String()
}

// widths returns the widths of the time, of an arrow and of the columns of the ends.
func (d *drawing) widths() (times, arrows int, columns [2]int) {
	for i := range d.rows {
		r := &d.rows[i]
		times = max(times, table.Width(r.time))
		for side := range r.acts {
			for _, line := range r.acts[side] {
				columns[side] = max(columns[side], table.Width(line))
			}
		}
		for _, s := range r.segments {
			arrows = max(arrows, s.least())
		}
	}
	fixed := d.Indent + 2*gap
	if times > 0 {
		fixed += times + gap
	}
	width := max(leastDrawing, d.Width)
	if least := arrows; d.Width == 0 || fixed+columns[Left]+columns[Right]+arrowWidth <= width {
		arrows = max(least, arrowWidth)
	} else {
		arrows = max(least, narrowArrow)
	}
	if d.Width == 0 {
		return times, arrows, columns
	}
	for fixed+arrows+columns[Left]+columns[Right] > width {
		widest := Left
		if columns[Right] > columns[Left] {
			widest = Right
		}
		if columns[widest] <= leastColumn {
			break
		}
		columns[widest]--
	}
	return times, arrows, columns
}

// leastDashes is the number of dashes that an arrow has at least.
const leastDashes = 4

func (s Segment) least() int { return table.Width(s.Label) + 2*gap + leastDashes }

// arrow draws the segment.
func (s Segment) arrow(width int) string {
	head, label := ">", " "+s.Label+" "
	if s.From == Right {
		head = "<"
	}
	if s.Lost {
		head = map[string]string{">": ">x", "<": "x<"}[head]
	}
	dashes := max(leastDashes, width-table.Width(label)-len(head))
	line := strings.Repeat("-", dashes/2) + label + strings.Repeat("-", dashes-dashes/2)
	if s.From == Right {
		return head + line
	}
	return line + head
}

// at returns a line, or "" if there are fewer.
func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-table.Width(text)))
}

// wrap breaks a line into lines of at most width cells: between words, and a longer word, such as an address, after a
// colon, or anywhere.
func wrap(line string, width int) []string {
	if table.Width(line) <= width {
		return []string{line}
	}
	var all []string
	for _, part := range table.Wrap(line, width) {
		for table.Width(part) > width {
			cut := len(prefix(part, width))
			if colon := strings.LastIndexByte(part[:cut], ':'); colon > 0 {
				cut = colon + 1
			}
			all = append(all, part[:cut])
			part = part[cut:]
		}
		all = append(all, part)
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// prefix returns the begin of text that fits into width cells, at least one character.
func prefix(text string, width int) string {
	used := 0
	for i, r := range text {
		used += table.Width(string(r))
		if used > width && i > 0 {
			return text[:i]
		}
	}
	return text
}
