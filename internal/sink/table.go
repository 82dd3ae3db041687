package sink

import (
	"encoding/binary"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/pkg/twwarp"
	"github.com/olekukonko/tablewriter/pkg/twwidth"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
)

// Table writes one row per ending, for people.
type Table struct {
	batch
	columns []column
	layout  layout
	color   bool
	plain   *plain
	// stream lays out for a terminal, where rows come as fast as people read. A
	// row takes it 80 allocations: into a file, at full speed, records were lost.
	stream *tablewriter.Table
	cells  [][]byte // of the row in the making
	texts  []string // the same, for the stream
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
	k := new(known)
	t := &Table{batch: batch{w: w}, columns: narrowColumns(k), color: o.Color}
	if o.Wide {
		t.columns = append(t.columns, wideColumns()...)
	}
	t.columns = append(t.columns, whyColumn(k))
	t.layout = unlimited(t.columns)
	if o.Width > 0 && !o.Wide {
		t.layout = fitted(t.columns, o.Width)
	}
	t.cells, t.texts = make([][]byte, len(t.columns)), make([]string, len(t.columns))
	heads := make([]string, len(t.columns))
	for i, c := range t.columns {
		heads[i] = c.head
	}
	t.plain = newPlain(&t.batch, t.layout, slices.Index(heads, pathHead))
	if o.Width > 0 {
		return t, t.open(heads)
	}
	t.plain.Row(heads, tw.Formatting{})
	return t, nil
}

// open opens the stream, with the header.
func (t *Table) open(heads []string) error {
	widths := tw.NewMapper[int, int]()
	for i, width := range t.layout.widths {
		widths.Set(i, max(width, 1))
	}
	t.stream = tablewriter.NewTable(io.Discard, // plain writes to the batch
		tablewriter.WithStreaming(tw.StreamConfig{Enable: true, StrictColumns: true}),
		tablewriter.WithColumnWidths(widths),
		tablewriter.WithRenderer(t.plain),
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithPadding(tw.PaddingNone),
	)
	if err := t.stream.Start(); err != nil {
		return err
	}
	t.stream.Header(heads)
	return nil
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
		t.plain.severity = filter.SeverityOf(e)
	}
	if err := t.row(); err != nil {
		return err
	}
	if e.Stack != nil {
		t.frames("user", e.Stack.User)
		t.frames("kernel", e.Stack.Kernel)
	}
	return t.added()
}

// row writes the cells.
func (t *Table) row() error {
	if t.stream == nil {
		t.plain.row(t.cells)
		return nil
	}
	for i, cell := range t.cells {
		t.texts[i] = string(cell)
	}
	return t.stream.Append(t.texts)
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

// Close ends the table and flushes. The writer stays open: it is the caller's.
func (t *Table) Close() error {
	if t.stream != nil {
		if err := t.stream.Close(); err != nil {
			return err
		}
	}
	return t.flush()
}

// cut shortens s to width cells, the last of them an ellipsis; 0 is without
// limit.
func cut(s string, width int) string {
	if width == 0 || twwidth.Width(s) <= width {
		return s
	}
	return twwidth.Truncate(s, width, "…")
}

// plain renders the rows of a stream as ss and ps do: columns apart by blanks,
// no lines, the last column as long as it is. A cell longer than its column is
// written in full and moves what stands behind it; where lines have a limit,
// what does not fit goes on in the next line.
//
// Rows and heads are its own because Blueprint's cut what overflows, pad the
// last column and drop the errors of their writer.
type plain struct {
	*renderer.Blueprint
	to       *batch
	layout   layout
	path     int             // the column that is painted
	severity filter.Severity // of the next row
	at       int             // cells in the line so far
	known    map[string]int  // widths of cells that are not ASCII
	cells    [][]byte        // of the stream's row
}

func newPlain(to *batch, l layout, path int) *plain {
	return &plain{to: to, layout: l, path: path, known: map[string]int{}, Blueprint: renderer.NewBlueprint(tw.Rendition{
		Borders:  tw.BorderNone,
		Settings: tw.Settings{Lines: tw.LinesNone, Separators: tw.SeparatorsNone},
	})}
}

// widthOf is how many cells of a terminal some text takes. Most of it is ASCII;
// of the rest, most has come before.
func (p *plain) widthOf(text []byte) int {
	if ascii(text) {
		return len(text) // there are no control characters in it
	}
	width, known := p.known[string(text)]
	if !known {
		const most = 1024
		if len(p.known) == most {
			clear(p.known)
		}
		width = twwidth.Width(string(text))
		p.known[string(text)] = width
	}
	return width
}

// ascii looks at eight bytes at once, as it does so for each cell of each row.
func ascii(text []byte) bool {
	for ; len(text) >= 8; text = text[8:] {
		if binary.NativeEndian.Uint64(text)&0x8080808080808080 != 0 {
			return false
		}
	}
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Row renders one row of the stream.
func (p *plain) Row(cells []string, _ tw.Formatting) {
	p.cells = p.cells[:0]
	for _, cell := range cells {
		p.cells = append(p.cells, []byte(cell))
	}
	p.row(p.cells)
}

// row renders one row of cells.
func (p *plain) row(cells [][]byte) {
	last := len(cells) - 1
	for i, cell := range cells[:last] {
		width := p.widthOf(cell)
		start := p.start(i)
		if p.layout.limit > 0 && start+width > p.layout.limit {
			p.end()
			start = p.layout.indent()
		}
		if i == p.path && p.severity != filter.Plain {
			cell = []byte(Paint(string(cell), p.severity))
		}
		p.put(cell, start, width)
	}
	p.last(cells[last], p.start(last))
	p.end()
}

// start is where the next cell stands, of column i.
func (p *plain) start(i int) int {
	if p.at == 0 {
		return 0
	}
	return max(p.layout.starts[i], p.at+p.layout.gap)
}

// last writes the cell of the last column: where it stands if it fits there,
// or else in lines of its own.
func (p *plain) last(cell []byte, start int) {
	limit := p.layout.limit
	if limit == 0 || !p.layout.below && start+p.widthOf(cell) <= limit {
		p.put(cell, start, 0)
		return
	}
	const least = 24 // cells, for words on whatever terminal
	indent := p.layout.indent()
	lines, _ := twwarp.WrapString(string(cell), max(limit-indent, least))
	for _, l := range lines {
		p.end()
		p.put([]byte(l), indent, 0)
	}
}

const blanks = "                                "

// put writes a cell so that it begins at start.
func (p *plain) put(cell []byte, start, width int) {
	buf := p.to.buf
	for p.at < start {
		n := min(start-p.at, len(blanks))
		buf = append(buf, blanks[:n]...)
		p.at += n
	}
	p.to.buf = append(buf, cell...)
	p.at += width
}

func (p *plain) end() {
	p.to.buf = append(p.to.buf, '\n')
	p.at = 0
}

// Header renders the column heads.
func (p *plain) Header(lines [][]string, f tw.Formatting) {
	for _, heads := range lines {
		p.Row(heads, f)
	}
}
