package sink

import (
	"io"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/pkg/twwidth"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"

	"github.com/closetrace/closetrace/internal/events"
)

// Table writes one row per ending, for people.
type Table struct {
	batch
	columns []column
	layout  layout
	width   int // of a line in cells; 0 is without limit
	stream  *tablewriter.Table
	cells   []string // of the row in the making
}

// TableOptions say how a table looks.
type TableOptions struct {
	// Width is what a line may take, in terminal cells: the columns are fitted
	// to it, and a WHY that is too long is cut. 0 is without limit: nothing is
	// cut, and a cell longer than its column moves the rest of its row.
	Width int
	// Wide adds columns of evidence, and has no limit.
	Wide bool
}

// NewTable returns a table that writes to w, its header with the first batch.
func NewTable(w io.Writer, o TableOptions) (*Table, error) {
	t := &Table{batch: batch{w: w}, columns: narrowColumns(), width: o.Width}
	if o.Wide {
		t.columns = append(t.columns, wideColumns()...)
		t.width = 0
	}
	t.columns = append(t.columns, whyColumn())
	t.layout = unlimited(t.columns)
	if t.width > 0 {
		t.layout = fitted(t.columns, t.width)
	}
	t.cells = make([]string, len(t.columns))
	return t, t.start()
}

// start opens the stream and writes the header into the batch.
func (t *Table) start() error {
	widths := tw.NewMapper[int, int]()
	heads := make([]string, len(t.columns))
	for i, c := range t.columns {
		widths.Set(i, max(t.layout.widths[i], 1))
		heads[i] = c.head
	}
	t.stream = tablewriter.NewTable(io.Discard, // plain writes to the batch
		tablewriter.WithStreaming(tw.StreamConfig{Enable: true, StrictColumns: true}),
		tablewriter.WithColumnWidths(widths),
		tablewriter.WithRenderer(newPlain(&t.batch, t.layout)),
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
	room := t.width
	for i, c := range t.columns {
		width := 0
		switch {
		case t.width > 0 && i == len(t.columns)-1:
			width = max(room, c.width)
		case t.width > 0:
			width = t.layout.widths[i]
		}
		t.cells[i] = c.text(e, width)
		room -= max(twwidth.Width(t.cells[i]), width) + t.layout.gap
	}
	if err := t.stream.Append(t.cells); err != nil {
		return err
	}
	return t.added()
}

// Flush writes the batch.
func (t *Table) Flush() error { return t.flush() }

// Close ends the table and flushes. The writer stays open: it is the caller's.
func (t *Table) Close() error {
	if err := t.stream.Close(); err != nil {
		return err
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
// no lines, the last column as long as it is. A cell longer than its column
// is written in full and moves the rest of its row.
//
// Rows and heads are its own because Blueprint's cut what overflows, pad the
// last column and drop the errors of their writer.
type plain struct {
	*renderer.Blueprint
	to     *batch
	layout layout
}

func newPlain(to *batch, l layout) *plain {
	return &plain{to: to, layout: l, Blueprint: renderer.NewBlueprint(tw.Rendition{
		Borders:  tw.BorderNone,
		Settings: tw.Settings{Lines: tw.LinesNone, Separators: tw.SeparatorsNone},
	})}
}

// Row renders one line of cells.
func (p *plain) Row(cells []string, _ tw.Formatting) {
	blanks := 0
	for i, cell := range cells {
		for range blanks {
			p.to.buf = append(p.to.buf, ' ')
		}
		p.to.buf = append(p.to.buf, cell...)
		blanks = max(p.layout.widths[i]-twwidth.Width(cell), 0) + p.layout.gap
	}
	p.to.buf = append(p.to.buf, '\n')
}

// Header renders the column heads, which are one line.
func (p *plain) Header(lines [][]string, f tw.Formatting) {
	for _, heads := range lines {
		p.Row(heads, f)
	}
}
