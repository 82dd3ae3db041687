package sink

import (
	"io"
	"slices"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink/table"
)

// Table writes one row per ending, for people. Rows look as those of ss(8): columns are separated by blanks, and there
// are no lines. A column grows with its cells; where it cannot, a longer cell moves the rest of the row. Where lines
// have a limit, what does not fit continues in the next line.
//
// The header is TIME and so on, or the date instead of TIME if endings follow that are not of today. It is written
// again when the date changes.
//
// Rows are written one by one as they come, millions of them, and their columns do not depend on the rows to come. So
// a package that lays out complete tables does not fit: it needs 80 allocations a row.
type Table struct {
	batch
	columns []column
	layout  layout
	texts   *texts
	color   bool
	path    int // the column that is painted
	now     func() time.Time
	waits   bool   // for the first row, before the header is written
	row     []cell // being written
	second  int64  // of the last row, since the epoch
	date    string // of the last row, or of the header before the first; empty: no header was written
	at      int    // width of the line so far
	// rows and lines are how many rows were written, and how many lines they took, without stacks and headers.
	rows, lines uint64
}

// TableOptions say how a table looks.
type TableOptions struct {
	// Width is the width of the terminal in cells. Columns are fitted to it, and what does not fit continues in further
	// lines. Only a long COMM is cut. 0 means no limit: a row is one line.
	Width int
	// Wide adds columns of evidence, and has no limit.
	Wide bool
	// Color paints PATH by severity.
	Color bool
	// ASCII replaces arrows, other signs and foreign letters, for a terminal that does not know them.
	ASCII bool
	// Recorded: the endings are recorded ones, so the header waits for the first, whose date it may have.
	Recorded bool
	// Say returns a sentence in the language of the reader. Nil: sentences are in English.
	Say func(string) string
}

// NewTable returns a table that writes to w. The header is written with the first batch.
func NewTable(w io.Writer, o TableOptions) *Table {
	texts := newTexts(o.ASCII, o.Say)
	t := &Table{
		batch: batch{w: w}, columns: narrowColumns(texts), color: o.Color, texts: texts, now: time.Now, waits: o.Recorded,
	}
	width := o.Width
	if o.Wide {
		t.columns = append(t.columns, wideColumns(texts)...)
		width = 0
	}
	t.columns = append(t.columns, whyColumn(texts))
	t.place(width)
	return t
}

// place lays out the columns for lines of a width.
func (t *Table) place(width int) {
	t.layout, t.row, t.path = newLayout(t.columns, width), make([]cell, len(t.columns)), columnOf(t.columns, pathHead)
}

// Hosts adds a column for the hosts of the endings, before the first row.
func (t *Table) Hosts(hosts []*events.Host) {
	width := len("HOST")
	for _, h := range hosts {
		width = max(width, t.texts.foreign.get(h.Label).width)
	}
	t.columns = slices.Insert(t.columns, 1, hostColumn(t.texts, min(width, longestHost)))
	t.place(t.layout.limit)
}

// header writes the header for rows of a date.
func (t *Table) header(date string) {
	before := t.lines
	for i, c := range t.columns {
		t.row[i].ascii(append(t.row[i].text[:0], c.head...))
	}
	if t.date != "" || date != t.now().Local().Format(time.DateOnly) {
		t.row[0].ascii(append(t.row[0].text[:0], date...))
	}
	t.date = date
	t.writeRow("")
	t.lines = before
}

// dated writes the header if the row of an ending needs one.
func (t *Table) dated(when time.Time) {
	second := when.Unix()
	if second == t.second && t.date != "" {
		return
	}
	t.second = second
	if date := when.Local().Format(time.DateOnly); date != t.date {
		t.header(date)
	}
}

// Write adds the row of e.
func (t *Table) Write(e *events.Ending) error {
	t.dated(e.Time)
	last := len(t.columns) - 1
	for i, c := range t.columns {
		c.fill(&t.row[i], e, t.layout.limit)
		if i < last {
			t.layout.grow(i, min(t.row[i].width, c.most))
		}
	}
	paint := ""
	if t.color {
		paint = paints[e.Severity()]
	}
	t.writeRow(paint)
	t.rows++
	if e.Stack != nil {
		t.frames("user", e.Stack.User)
		t.frames("kernel", e.Stack.Kernel)
	}
	return t.added()
}

// frames writes a stack below its row, one function per line.
func (t *Table) frames(kind string, stack []string) {
	for _, frame := range stack {
		t.buf = append(append(append(t.buf, "    "...), kind...), "  "...)
		t.buf = append(append(t.buf, t.texts.own.compute(printable(frame)).shown...), '\n')
	}
}

// note adds a line below the second column.
func (t *Table) note(text string) error {
	t.fillTo(t.layout.indent())
	t.buf = append(t.buf, t.texts.own.compute(t.texts.say(text)).shown...)
	t.endLine()
	return t.added()
}

// Flush writes the batch.
func (t *Table) Flush() error {
	if t.date == "" && !t.waits {
		t.header(t.now().Local().Format(time.DateOnly))
	}
	return t.flush()
}

// Close flushes. The writer stays open: it is the caller's.
func (t *Table) Close() error {
	t.waits = false
	return t.Flush()
}

// writeRow writes the cells of t.row, PATH in a colour.
func (t *Table) writeRow(paint string) {
	last := len(t.row) - 1
	for i := range t.row[:last] {
		c := &t.row[i]
		start := t.start(i)
		if t.layout.limit > 0 && start+c.width > t.layout.limit {
			t.endLine()
			start = t.layout.indent()
		}
		t.fillTo(start)
		if i == t.path && paint != "" {
			t.buf = append(append(append(t.buf, paint...), c.text...), unpainted...)
		} else {
			t.buf = append(t.buf, c.text...)
		}
		t.at += c.width
	}
	t.writeLast(&t.row[last], t.start(last))
	t.endLine()
}

// start returns where the next cell begins if it is that of column i.
func (t *Table) start(i int) int {
	if t.at == 0 {
		return 0
	}
	return max(t.layout.starts[i], t.at+t.layout.gap)
}

// writeLast writes the last cell of a row: in its column if it fits there, otherwise in lines of its own.
func (t *Table) writeLast(c *cell, start int) {
	limit := t.layout.limit
	if limit == 0 || !t.layout.below && start+c.width <= limit {
		t.fillTo(start)
		t.buf = append(t.buf, c.text...)
		return
	}
	const readable = 24 // cells, also on a narrower terminal
	indent := t.layout.indent()
	for _, line := range table.Wrap(string(c.text), max(limit-indent, readable)) {
		t.endLine()
		t.fillTo(indent)
		t.buf = append(t.buf, line...)
	}
}

const blanks = "                                "

// fillTo writes blanks up to where a cell begins.
func (t *Table) fillTo(start int) {
	for t.at < start {
		n := min(start-t.at, len(blanks))
		t.buf = append(t.buf, blanks[:n]...)
		t.at += n
	}
}

func (t *Table) endLine() {
	t.lines++
	t.buf = append(t.buf, '\n')
	t.at = 0
}
