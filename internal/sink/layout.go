package sink

// layout says where the cells of a table stand.
type layout struct {
	starts []int // of each column
	widths []int
	gap    int // between columns
	limit  int // of a line; 0 is none
	// below: the last column has no place beside the others, whatever is in it.
	below bool
}

// beside is the width from which on the last column stands beside the others:
// if it fits: it has 32 cells then.
const beside = 118

// growth is in which order columns are given what a terminal has to spare
// beyond their least widths: to is the width that the step may lead to. What is
// left at the end is for the last column.
var growth = []struct {
	head string
	to   int
}{
	{"WHY", 32}, {"LOCAL", 15}, {"COMM", 10}, {"REMOTE", 21}, {"WHY", 40}, {"LOCAL", 21}, {"COMM", 15},
	{"PATH", 20}, {"WHY", 80}, {"REMOTE", 27}, {"WHY", 105}, {"REMOTE", 47}, {"LOCAL", 47},
}

// unlimited is the layout where lines may be as long as they like.
func unlimited(columns []column) layout {
	l := layout{gap: 2}
	for _, c := range columns {
		l.widths = append(l.widths, c.width)
	}
	return l.placed()
}

// fitted is the layout for lines of width cells.
func fitted(columns []column, width int) layout {
	l := layout{gap: 2, limit: width, below: width < beside}
	if width < 100 {
		l.gap = 1
	}
	index := make(map[string]int, len(columns))
	spare := width - l.gap*(len(columns)-1)
	for i, c := range columns {
		index[c.head] = i
		l.widths = append(l.widths, c.least)
		spare -= c.least
	}
	if l.below {
		spare += l.gap
		delete(index, columns[len(columns)-1].head)
	}
	for _, step := range growth {
		if i, ok := index[step.head]; ok {
			more := max(min(step.to-l.widths[i], spare), 0)
			l.widths[i] += more
			spare -= more
		}
	}
	return l.placed()
}

// placed is l with where its columns start.
func (l layout) placed() layout {
	at := 0
	for _, width := range l.widths {
		l.starts = append(l.starts, at)
		at += width + l.gap
	}
	return l
}

// indent is where a further line of a row starts: under the second column.
func (l *layout) indent() int { return l.starts[1] }
