package sink

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Summary counts endings by path, and is printed at the end of a run.
type Summary struct {
	// Took is how long the run lasted.
	Took time.Duration
	// LostRecords is the number of facts for which the buffer had no room.
	LostRecords uint64
	// MissedProbes is how often the kernel side did not see a call, or not its
	// return.
	MissedProbes uint64
	// Suppressed is the number of RSTs in reply beyond the rate that is
	// reported one by one, as in a scan of ports.
	Suppressed uint64
	// Undecodable is the number of records that this program could not read.
	Undecodable uint64
	// Unexplained is the number of facts that led to no ending, because no rule
	// covers them.
	Unexplained uint64
	// Unwritten is the number of endings that may not have reached whoever reads
	// the output: what a write had taken in when it was given up is not known.
	Unwritten uint64
	// NoEnd: it is of a record whose end, which tells what was lost, was not read.
	NoEnd bool
	// Audit, if set, is told last.
	Audit *Audit

	paths map[events.Path]*pathCount
	late  [32]*pathCount // some of the last, by length of the path
	total uint64
	left  uint64 // out by filters
}

type pathCount struct {
	path         events.Path
	title        string
	endings      uint64
	fins, resets uint64
}

// Add counts e.
func (s *Summary) Add(e *events.Ending) {
	late := &s.late[len(e.Path)%len(s.late)]
	if *late == nil || (*late).path != e.Path {
		*late = s.countOf(e)
	}
	c := *late
	s.total++
	c.endings++
	if e.FIN {
		c.fins++
	}
	if e.RST {
		c.resets++
	}
}

func (s *Summary) countOf(e *events.Ending) *pathCount {
	c := s.paths[e.Path]
	if c == nil {
		if s.paths == nil {
			s.paths = make(map[events.Path]*pathCount)
		}
		c = &pathCount{path: e.Path, title: e.Title}
		s.paths[e.Path] = c
	}
	return c
}

// LeaveOut counts an ending that a filter did not let through.
func (s *Summary) LeaveOut(*events.Ending) { s.left++ }

// Endings returns how many were added.
func (s *Summary) Endings() uint64 { return s.total }

// Print writes the table, most frequent path first, and the totals. What was
// lost is always told, also if it is nothing.
func (s *Summary) Print(w io.Writer) error {
	var b strings.Builder
	s.table(&b)
	fmt.Fprintf(&b, "%s in %s\n", plural(s.total, "ending", "endings"), s.Took.Round(time.Millisecond))
	if s.left > 0 {
		fmt.Fprintf(&b, "%s left out by filters\n", plural(s.left, "ending", "endings"))
	}
	if s.NoEnd {
		b.WriteString("how much was lost is not known: the end of the record was not read\n")
	} else {
		fmt.Fprintf(&b, "%s lost, %s missed\n",
			plural(s.LostRecords, "record", "records"), plural(s.MissedProbes, "probe", "probes"))
	}
	if s.Suppressed > 0 {
		fmt.Fprintf(&b, "%s in reply beyond the rate that is reported one by one\n", plural(s.Suppressed, "RST", "RSTs"))
	}
	if s.Undecodable > 0 {
		fmt.Fprintf(&b, "%s not decoded\n", plural(s.Undecodable, "record", "records"))
	}
	if s.Unexplained > 0 {
		fmt.Fprintf(&b, "%s not explained\n", plural(s.Unexplained, "event", "events"))
	}
	if s.Unwritten > 0 {
		fmt.Fprintf(&b, "up to %s not written\n", plural(s.Unwritten, "ending", "endings"))
	}
	if s.Audit != nil {
		b.WriteString(Tame(s.Audit.line(s)) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Summary) table(b *strings.Builder) {
	if len(s.paths) == 0 {
		return
	}
	rows := [][5]string{{"ENDINGS", "FIN", "RST", "PATH", "TITLE"}}
	for _, c := range s.sorted() {
		rows = append(rows, [5]string{
			grouped(c.endings), grouped(c.fins), grouped(c.resets),
			foreign(string(c.path)), foreign(c.title),
		})
	}
	var widths [5]int
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	for _, row := range rows {
		fmt.Fprintf(b, "%*s  %*s  %*s  %-*s  %s\n",
			widths[0], row[0], widths[1], row[1], widths[2], row[2], widths[3], row[3], row[4])
	}
}

func (s *Summary) sorted() []*pathCount {
	var all []*pathCount
	for _, c := range s.paths {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *pathCount) int {
		return cmp.Or(cmp.Compare(b.endings, a.endings), cmp.Compare(a.path, b.path))
	})
	return all
}

func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// grouped writes n with a comma between thousands.
func grouped(n uint64) string {
	digits := number(n)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
