package sink

import (
	"io"
	"slices"

	"github.com/olekukonko/tablewriter/pkg/twwarp"
	"github.com/olekukonko/tablewriter/pkg/twwidth"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
)

// Table writes one row per ending, for people, as ss and ps do: columns apart by
// blanks, no lines, the last column as long as it is. A cell longer than its
// column is written in full and moves what stands behind it; where lines have a
// limit, what does not fit goes on in the next line.
//
// Rows are its own, on top of what tablewriter knows of widths and wrapping,
// because each of that library's costs 80 allocations: at thousands of endings a
// second they were lost.
type Table struct {
	batch
	columns  []column
	layout   layout
	color    bool
	path     int             // the column that is painted
	severity filter.Severity // of the row in the making
	cells    [][]byte        // likewise
	at       int             // cells in the line so far
	known    map[string]int  // widths of cells that are not ASCII
}

// TableOptions say how a table looks.
type TableOptions struct {
	// Width is what a line may take, in terminal cells: the columns are fitted
	// to it, and what does not fit goes on in further lines. Only a long COMM
	// is cut. 0 is without limit: a row is one line, and a cell longer than its
	// column moves the rest of it.
	Width int
	// Wide adds columns of evidence, and has no limit.
	Wide bool
	// Color paints PATH by severity.
	Color bool
}

// NewTable returns a table that writes to w, its header with the first batch.
func NewTable(w io.Writer, o TableOptions) (*Table, error) {
	t := &Table{batch: batch{w: w}, columns: narrowColumns(), color: o.Color, known: map[string]int{}}
	if o.Wide {
		t.columns = append(t.columns, wideColumns()...)
	}
	t.columns = append(t.columns, whyColumn())
	t.layout = unlimited(t.columns)
	if o.Width > 0 && !o.Wide {
		t.layout = fitted(t.columns, o.Width)
	}
	t.cells = make([][]byte, len(t.columns))
	for i, c := range t.columns {
		t.cells[i] = []byte(c.head)
	}
	t.path = slices.IndexFunc(t.columns, func(c column) bool { return c.head == pathHead })
	t.row()
	return t, nil
}

// Write adds the row of e.
func (t *Table) Write(e *events.Ending) error {
	for i, c := range t.columns {
		width := 0
		if t.layout.limit > 0 {
			width = t.layout.widths[i]
		}
		t.cells[i] = c.cell(t.cells[i][:0], e, width)
	}
	if t.color {
		t.severity = filter.SeverityOf(e)
	}
	t.row()
	if e.Stack != nil {
		t.frames("user", e.Stack.User)
		t.frames("kernel", e.Stack.Kernel)
	}
	return t.added()
}

// frames writes a stack below its row, a function a line, as long as it is.
func (t *Table) frames(of string, stack []string) {
	for _, frame := range stack {
		t.buf = append(append(append(t.buf, "    "...), of...), "  "...)
		t.buf = append(append(t.buf, printable(frame)...), '\n')
	}
}

// Flush writes the batch.
func (t *Table) Flush() error { return t.flush() }

// Close flushes. The writer stays open: it is the caller's.
func (t *Table) Close() error { return t.flush() }

// cut shortens s to width cells, the last of them an ellipsis; 0 is without
// limit.
func cut(s string, width int) string {
	if width == 0 || twwidth.Width(s) <= width {
		return s
	}
	return twwidth.Truncate(s, width, "…")
}

// widthOf is how many cells of a terminal some text takes. Most of it is ASCII;
// of the rest, most has come before.
func (t *Table) widthOf(text []byte) int {
	if !slices.ContainsFunc(text, func(c byte) bool { return c < ' ' || c > '~' }) {
		return len(text)
	}
	width, known := t.known[string(text)]
	if !known {
		const most = 1024
		if len(t.known) == most {
			clear(t.known)
		}
		width = twwidth.Width(string(text))
		t.known[string(text)] = width
	}
	return width
}

// row writes the cells.
func (t *Table) row() {
	last := len(t.cells) - 1
	for i, cell := range t.cells[:last] {
		width := t.widthOf(cell)
		start := t.start(i)
		if t.layout.limit > 0 && start+width > t.layout.limit {
			t.end()
			start = t.layout.indent()
		}
		if i == t.path && t.color {
			cell = []byte(Paint(string(cell), t.severity))
		}
		t.put(cell, start, width)
	}
	t.last(t.cells[last], t.start(last))
	t.end()
}

// start is where the next cell stands, of column i.
func (t *Table) start(i int) int {
	if t.at == 0 {
		return 0
	}
	return max(t.layout.starts[i], t.at+t.layout.gap)
}

// last writes the cell of the last column: where it stands if it fits there,
// or else in lines of its own.
func (t *Table) last(cell []byte, start int) {
	limit := t.layout.limit
	if limit == 0 || !t.layout.below && start+t.widthOf(cell) <= limit {
		t.put(cell, start, 0)
		return
	}
	const least = 24 // cells, for words on whatever terminal
	indent := t.layout.indent()
	lines, _ := twwarp.WrapString(string(cell), max(limit-indent, least))
	for _, l := range lines {
		t.end()
		t.put([]byte(l), indent, 0)
	}
}

// put writes a cell so that it begins at start.
func (t *Table) put(cell []byte, start, width int) {
	for ; t.at < start; t.at++ {
		t.buf = append(t.buf, ' ')
	}
	t.buf = append(t.buf, cell...)
	t.at += width
}

func (t *Table) end() {
	t.buf = append(t.buf, '\n')
	t.at = 0
}
