package sink

// layout is where the cells of a table begin. Columns begin narrow, and grow with their cells as long as the last
// column keeps its room, so that addresses have what they need and no more.
type layout struct {
	starts []int // of each column, in cells
	widths []int
	gap    int // between columns
	limit  int // of a line; 0: none
	// below: the last column never fits beside the others, and gets lines of its own.
	below bool
	spare int // by how much columns may still grow
}

const (
	// beside is the width from which on the last column has a place beside the others.
	beside = 118
	// roomy is the width from which on two blanks separate columns.
	roomy = 140
	// portsOnly is the width up to which LOCAL is only a port.
	portsOnly = 70
)

// lastColumn returns what the last column keeps beside the others: on 120 cells the most frequent causes, then half of
// what there is more, up to most of the causes.
func lastColumn(width int) int { return 47 + min(max(width-120, 0)/2, 58) }

// newLayout returns the layout for lines of width cells; 0 means no limit.
func newLayout(columns []column, width int) layout {
	l := layout{gap: 2, limit: width, below: width > 0 && width < beside}
	if width > 0 && width < roomy {
		l.gap = 1
	}
	used := 0
	for _, c := range columns {
		l.widths = append(l.widths, c.width)
		used += c.width + l.gap
	}
	used -= l.gap
	if l.below {
		used -= l.gap // before the last column, which has no width of its own
	} else {
		used += lastColumn(width)
	}
	if width > 0 && width <= portsOnly {
		local := columnOf(columns, localHead)
		used -= l.widths[local] - portOnly
		l.widths[local] = portOnly
	}
	l.spare = max(width-used, 0)
	if width == 0 {
		l.spare = unlimited
	}
	l.place()
	return l
}

// unlimited is the spare of a line without a limit.
const unlimited = 1 << 30

// grow widens column i to width if there is room.
func (l *layout) grow(i, width int) {
	more := width - l.widths[i]
	if more <= 0 || more > l.spare {
		return
	}
	l.widths[i] += more
	l.spare -= more
	l.place()
}

// place sets the starts of the columns.
func (l *layout) place() {
	l.starts = l.starts[:0]
	start := 0
	for _, width := range l.widths {
		l.starts = append(l.starts, start)
		start += width + l.gap
	}
}

// indent returns where further lines of a row begin: below the second column.
func (l *layout) indent() int { return l.starts[1] }
