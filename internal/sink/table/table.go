// Package table lays out tables whose rows are all known: columns as wide as their cells, fitted to the width of a
// terminal. Its words are already safe to print.
package table

import (
	"io"
	"slices"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/pkg/twwidth"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// Column describes one column.
type Column struct {
	Head  string
	Right bool // align to the right, for numbers
	// Wrap lets the column become narrower than its cells, which are then wrapped between words.
	Wrap bool
	// Min is the least width in cells, so that several tables can share a layout.
	Min int
}

// Table is a table that is complete.
type Table struct {
	Columns []Column // printed without a header line if no column has a Head
	Rows    [][]string
	// Width is the width of a terminal in cells. Columns with Wrap shrink until a line fits, but not below what can be
	// read. 0 means no limit: a row is one line.
	Width  int
	Indent bool // by as much as separates two columns
}

// An arrow has one cell, as in the C library, also where the locale is Chinese, for which the library guesses two.
func init() { twwidth.SetEastAsian(false) }

// gap is what separates two columns.
const gap = "  "

// readable is the least width in cells of a column that is wrapped.
const readable = 24

// RemoveColumn removes the column with this head, and its cells.
func (t *Table) RemoveColumn(head string) {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Head == head })
	t.Columns = slices.Delete(t.Columns, i, i+1)
	for row := range t.Rows {
		t.Rows[row] = slices.Delete(t.Rows[row], i, i+1)
	}
}

// Print writes the table, without blanks at the end of lines.
func (t *Table) Print(w io.Writer) error {
	_, err := io.WriteString(w, t.String())
	return err
}

// String returns the table as [Table.Print] writes it.
func (t *Table) String() string {
	var text strings.Builder
	fixed := t.widths()
	table := tablewriter.NewTable(&text,
		tablewriter.WithRenderer(t.renderer()),
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone),
		tablewriter.WithRowAutoWrap(tw.WrapNormal),
		tablewriter.WithTrimSpace(tw.Off),
		tablewriter.WithConfig(tablewriter.Config{Header: t.cells(), Row: t.cells()}),
		tablewriter.WithColumnWidths(fixed),
	)
	if t.hasHeads() {
		var heads []string
		for _, c := range t.Columns {
			heads = append(heads, c.Head)
		}
		table.Header(heads)
	}
	// A strings.Builder does not fail, and rows of text are always accepted.
	_ = table.Bulk(t.wrapped(fixed))
	_ = table.Render()
	var lines strings.Builder
	for line := range strings.Lines(text.String()) {
		lines.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return lines.String()
}

// Fits reports whether a line fits on the terminal.
func (t *Table) Fits() bool {
	_, least := t.measure()
	width := len(gap) * (len(t.Columns) - 1)
	for _, n := range least {
		width += n
	}
	return t.Width == 0 || width <= t.Width
}

// Stacked returns the table with the cells of its last column below the others, indented and wrapped.
func (t *Table) Stacked() string {
	last := len(t.Columns) - 1
	above := &Table{Columns: t.Columns[:last]}
	for _, row := range t.Rows {
		above.Rows = append(above.Rows, row[:last])
	}
	const indent = "    "
	var text strings.Builder
	row := -1
	if !above.hasHeads() {
		row++
	}
	for line := range strings.Lines(above.String()) {
		text.WriteString(line)
		if row >= 0 && row < len(t.Rows) {
			for _, part := range Wrap(t.Rows[row][last], max(t.Width-len(indent), readable)) {
				text.WriteString(indent + part + "\n")
			}
		}
		row++
	}
	return text.String()
}

func (t *Table) hasHeads() bool {
	for _, c := range t.Columns {
		if c.Head != "" {
			return true
		}
	}
	return false
}

// renderer separates columns by blanks and draws no lines.
func (t *Table) renderer() tw.Renderer {
	r := tw.Rendition{
		Borders:  tw.BorderNone,
		Symbols:  tw.NewSymbolCustom("blanks").WithColumn(gap),
		Settings: tw.Settings{Lines: tw.LinesNone, Separators: tw.SeparatorsNone},
	}
	r.Settings.Separators.BetweenColumns = tw.On
	if t.Indent {
		r.Borders.Left = tw.On // drawn as a gap
	}
	return renderer.NewBlueprint(r)
}

// cells returns the alignment of each column, without padding.
func (t *Table) cells() tw.CellConfig {
	cells := tw.CellConfig{
		Padding:    tw.CellPadding{Global: tw.PaddingNone},
		Formatting: tw.CellFormatting{AutoFormat: tw.Off},
	}
	for _, c := range t.Columns {
		align := tw.AlignLeft
		if c.Right {
			align = tw.AlignRight
		}
		cells.Alignment.PerColumn = append(cells.Alignment.PerColumn, align)
	}
	return cells
}

// widths returns the widths of the columns that are not as wide as their cells.
func (t *Table) widths() tw.Mapper[int, int] {
	fixed := tw.NewMapper[int, int]()
	natural, least := t.measure()
	excess := len(gap)*(len(t.Columns)-1) - t.Width
	if t.Indent {
		excess += len(gap)
	}
	for i, c := range t.Columns {
		if natural[i] < c.Min {
			natural[i] = c.Min
			fixed.Set(i, c.Min)
		}
		excess += natural[i]
	}
	for ; t.Width > 0 && excess > 0; excess-- {
		i := widestAbove(natural, least)
		if i < 0 {
			break
		}
		natural[i]--
		fixed.Set(i, natural[i])
	}
	return fixed
}

// wrapped returns the rows with line breaks in Chinese cells of a fixed width: tablewriter breaks only at blanks.
func (t *Table) wrapped(fixed tw.Mapper[int, int]) [][]string {
	rows := make([][]string, len(t.Rows))
	for n, row := range t.Rows {
		rows[n] = slices.Clone(row)
		for i, c := range t.Columns {
			if width := fixed.Get(i); c.Wrap && width > 0 && strings.IndexFunc(row[i], IsChinese) >= 0 {
				rows[n][i] = strings.Join(Wrap(row[i], width), "\n")
			}
		}
	}
	return rows
}

// widestAbove returns the widest column that is wider than it must be, -1 if there is none.
func widestAbove(widths, least []int) int {
	widest := -1
	for i := range widths {
		if widths[i] > least[i] && (widest < 0 || widths[i] > widths[widest]) {
			widest = i
		}
	}
	return widest
}

// measure returns how wide the cells of each column are, and how narrow it may become.
func (t *Table) measure() (natural, least []int) {
	natural, least = make([]int, len(t.Columns)), make([]int, len(t.Columns))
	for i, c := range t.Columns {
		natural[i] = Width(c.Head)
		least[i] = max(readable, natural[i], c.Min)
		for _, row := range t.Rows {
			natural[i] = max(natural[i], Width(row[i]))
			for _, piece := range pieces(row[i]) {
				least[i] = max(least[i], Width(strings.TrimSpace(piece)))
			}
		}
		if !c.Wrap {
			least[i] = natural[i]
		}
	}
	return natural, least
}

// Width returns how many cells of a terminal s takes. Colours take none.
func Width(s string) int { return twwidth.Width(s) }

// Cut shortens s to width cells, the last of them an ellipsis.
func Cut(s string, width int) string {
	if Width(s) <= width {
		return s
	}
	return twwidth.Truncate(s, width, "…")
}
