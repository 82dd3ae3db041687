package sink

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Group is endings of a summary that deserve attention and have path, process, service and peer host in common. Its
// texts are safe to print.
type Group struct {
	Path                        events.Path
	Process, Service, Peer, Why string
	Endings                     uint64
	Severity                    events.Severity // the highest
	First, Last                 time.Time
}

// PathCount is how many endings of a summary took a path.
type PathCount struct {
	Path     events.Path
	Endings  uint64
	Ordinary uint64 // of them, those that are in no [Group]
}

// Figures are the totals of a summary.
type Figures struct {
	Endings  uint64
	LeftOut  uint64 // by filters
	Ordinary uint64 // of Endings, those that are in no [Group]

	FINSent, RSTSent, RSTReceived uint64
}

// Groups returns the groups of a summary, the most important first. say returns what says a sentence of theirs.
func (s *Summary) Groups(say func(string) string) []Group {
	var all []Group
	for _, g := range s.groups.sorted() {
		all = append(all, Group{
			Path: g.path, Process: g.process(), Service: g.service(), Peer: g.peerHost(), Why: g.why(say),
			Endings: g.endings, Severity: g.severity, First: g.first.Time, Last: g.last,
		})
	}
	return all
}

// Paths returns the paths of all endings, the most frequent first.
func (s *Summary) Paths() []PathCount {
	var all []PathCount
	for _, c := range s.paths {
		all = append(all, PathCount{c.path, c.endings, c.ordinary})
	}
	slices.SortFunc(all, func(a, b PathCount) int {
		return cmp.Or(cmp.Compare(b.Endings, a.Endings), cmp.Compare(a.Path, b.Path))
	})
	return all
}

// Figures returns the totals.
func (s *Summary) Figures() Figures {
	f := Figures{Endings: s.total, LeftOut: s.hidden + s.counted()}
	for _, c := range s.paths {
		f.Ordinary += c.ordinary
		f.FINSent += c.finSent
		f.RSTSent += c.rstSent
		f.RSTReceived += c.rstReceived
	}
	return f
}

// Remarks returns the lines on what was lost and on what else is not shown, and the audit, if there is one. They are
// safe to print.
func (s *Summary) Remarks() []string {
	lines := strings.Split(strings.TrimSpace(s.remarks()), "\n")
	if s.Audit != nil {
		lines = append(lines, s.Audit.lines(s)...)
	}
	for i, line := range lines {
		lines[i] = Tame(line)
	}
	return lines
}
