package sink

// layout is the widths of a table's columns and of the gap between them.
type layout struct {
	widths []int
	gap    int
}

// growth is in which order columns are given what a terminal has to spare
// beyond their least widths: to is the width that the step may lead to. What is
// left at the end is for the last column.
var growth = []struct {
	head string
	to   int
}{
	{"WHY", 24}, {"LOCAL", 15}, {"COMM", 10}, {"REMOTE", 21}, {"WHY", 40}, {"PATH", 16}, {"LOCAL", 21},
	{"COMM", 15}, {"PATH", 20}, {"WHY", 80}, {"REMOTE", 31}, {"LOCAL", 31}, {"REMOTE", 47},
	{"LOCAL", 47},
}

// unlimited is the layout where lines may be as long as they like.
func unlimited(columns []column) layout {
	l := layout{gap: 2}
	for _, c := range columns {
		l.widths = append(l.widths, c.width)
	}
	return l
}

// fitted is the layout for lines of width cells. On a terminal too narrow for
// the least widths, lines are longer than that.
func fitted(columns []column, width int) layout {
	l := layout{gap: 2}
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
	for _, step := range growth {
		i := index[step.head]
		more := max(min(step.to-l.widths[i], spare), 0)
		l.widths[i] += more
		spare -= more
	}
	l.widths[len(l.widths)-1] += max(spare, 0)
	return l
}
