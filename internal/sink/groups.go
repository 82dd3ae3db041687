package sink

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink/table"
)

const (
	// maxGroups bounds the groups of a summary at each of two levels: by path, process, service and peer host, and once
	// there are too many of these, by path, name of the process and service. Beyond both, they are by path.
	maxGroups = 1024
	// maxUngrouped is how many endings wait to be grouped, until it is known better which ports are those of services.
	maxUngrouped = 256
	// defaultRows is how many groups a summary has that does not go to a terminal.
	defaultRows = 20
	// besideSummary is the width from which on WHY has a place beside the other columns of a summary.
	besideSummary = 132
)

// groups are the endings of a summary that deserve attention, in groups.
type groups struct {
	services  events.Services
	causes    *memo[string, *numbers]
	ungrouped []events.Ending
	byKey     map[summaryKey]*summaryGroup
	levels    [3]int // number of groups at each level
}

// summaryKey identifies a group. At the second level it has no pid and no peer, at the third only a path.
type summaryKey struct {
	level   int
	path    events.Path
	host    *events.Host // one of several
	pid     uint32
	comm    string
	peer    netip.Addr
	port    uint16 // of the service
	isLocal bool   // port is the local one
}

type summaryGroup struct {
	summaryKey
	group
	last    time.Time
	differs uint64 // endings with a cause that says something else
}

// add adds an ending to its group.
func (g *groups) add(e *events.Ending) {
	if len(g.ungrouped) == maxUngrouped {
		g.settle()
	}
	g.ungrouped = append(g.ungrouped, *e)
}

// settle groups the endings that wait.
func (g *groups) settle() {
	if g.byKey == nil {
		g.byKey, g.causes = map[summaryKey]*summaryGroup{}, newMemo(numbersOf)
	}
	for i := range g.ungrouped {
		e := &g.ungrouped[i]
		cause := g.causes.get(e.Cause)
		to := g.groupOf(e, cause)
		to.endings++
		to.severity = max(to.severity, e.Severity())
		if e.Time.Before(to.first.Time) {
			to.first.Time = e.Time
		}
		if e.Time.After(to.last) {
			to.last = e.Time
		}
		if to.cause.shape == cause.shape {
			to.cause.widen(cause)
		} else {
			to.differs++
		}
	}
	clear(g.ungrouped)
	g.ungrouped = g.ungrouped[:0]
}

// groupOf returns the group of an ending, a new one if there is room for it.
func (g *groups) groupOf(e *events.Ending, cause *numbers) *summaryGroup {
	key := summaryKey{path: e.Path, host: e.Host, peer: e.Remote.Addr().Unmap()}
	key.port, key.isLocal = g.services.Guess(e)
	if task := who(e); task != nil {
		key.pid, key.comm = task.PID, task.Name()
	}
	for {
		if known := g.byKey[key]; known != nil {
			return known
		}
		if key.level == len(g.levels)-1 || g.levels[key.level] < maxGroups {
			break
		}
		if key.level++; key.level == 1 {
			key.host, key.pid, key.peer = nil, 0, netip.Addr{}
		} else {
			key = summaryKey{level: key.level, path: key.path}
		}
	}
	added := &summaryGroup{summaryKey: key, group: group{first: *e, cause: cause.copied()}, last: e.Time}
	added.first.Stack = nil
	g.byKey[key] = added
	g.levels[key.level]++
	return added
}

// sorted returns the groups, the most important first.
func (g *groups) sorted() []*summaryGroup {
	g.settle()
	var all []*summaryGroup
	for _, each := range g.byKey {
		all = append(all, each)
	}
	slices.SortFunc(all, func(a, b *summaryGroup) int {
		return cmp.Or(compareGroups(&a.group, &b.group), cmp.Compare(a.path, b.path), cmp.Compare(a.pid, b.pid),
			cmp.Compare(a.hostLabel(), b.hostLabel()), a.peer.Compare(b.peer), cmp.Compare(a.port, b.port))
	})
	return all
}

// process returns the process that made the calls or holds the sockets, with its host if there are several.
func (g *summaryGroup) process() string {
	if g.host != nil {
		return foreign(g.host.Label) + " " + g.task()
	}
	return g.task()
}

// task returns its name and id.
func (g *summaryGroup) task() string {
	switch {
	case g.level == 2:
		return "(others)"
	case g.comm == "":
		return "kernel"
	case g.level == 1:
		return foreign(g.comm)
	}
	return foreign(g.comm) + "[" + strconv.FormatUint(uint64(g.pid), 10) + "]"
}

func (g *summaryGroup) hostLabel() string {
	if g.host == nil {
		return ""
	}
	return g.host.Label
}

// service returns the port, with "here" if it is one of this side.
func (g *summaryGroup) service() string {
	switch {
	case g.level == 2 || g.port == 0:
		return absent
	case g.summaryKey.isLocal:
		return "here:" + strconv.Itoa(int(g.port))
	}
	return ":" + strconv.Itoa(int(g.port))
}

func (g *summaryGroup) peerHost() string {
	switch {
	case g.level > 0:
		return "(others)"
	case !g.peer.IsValid() || g.peer.IsUnspecified():
		return absent
	}
	return g.peer.String()
}

func (g *summaryGroup) why(say func(string) string) string {
	why := g.cause.String()
	if g.differs > 0 {
		why += " (" + events.Grouped(g.differs) + " with another reason)"
	}
	return foreign(say(why))
}

// clock returns a time of day, with the day if that is not today.
func clock(when, now time.Time) string {
	when, now = when.Local(), now.Local()
	if when.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return when.Format(time.TimeOnly)
	}
	return when.Format("01-02 " + time.TimeOnly)
}

// groupTable returns the table of the most important groups, what is not in it, and the command to go on with.
func (s *Summary) groupTable() string {
	all := s.groups.sorted()
	if len(all) == 0 {
		return ""
	}
	rows := cmp.Or(s.Rows, defaultRows)
	isNarrow := s.Width > 0 && s.Width < besideSummary
	if isNarrow {
		rows = max(rows/2, 1)
	}
	shown := all[:min(rows, len(all))]
	text := s.rowsOf(shown, isNarrow)
	var left uint64
	for _, g := range all[len(shown):] {
		left += g.endings
	}
	if left > 0 {
		text += s.line("and %s in %s", events.Quantity(left, "more ending", "more endings"),
			events.Quantity(uint64(len(all)-len(shown)), "group", "groups"))
	}
	return text + s.line("next: closetrace explain %s", foreign(string(shown[0].path)))
}

// rowsOf returns a table of groups. On a narrow terminal each row has a second line, with the times and WHY.
func (s *Summary) rowsOf(shown []*summaryGroup, isNarrow bool) string {
	now := time.Now
	if s.now != nil {
		now = s.now
	}
	t := table.Table{Columns: []table.Column{
		{Head: "COUNT", Right: true}, {Head: "PROCESS"}, {Head: "SERVICE"}, {Head: "PEER"}, {Head: "PATH"},
	}}
	if !isNarrow {
		t.Columns = append(t.Columns, table.Column{Head: "FIRST"}, table.Column{Head: "LAST"},
			table.Column{Head: "WHY", Wrap: true})
		t.Width = s.Width
	}
	var below []string
	for _, g := range shown {
		first, last := clock(g.first.Time, now()), clock(g.last, now())
		path := foreign(string(g.path))
		if s.Color {
			path = Paint(path, g.severity)
		}
		row := []string{events.Grouped(g.endings), g.process(), g.service(), g.peerHost(), path}
		if isNarrow {
			below = append(below, times(first, last)+": "+g.why(s.say))
		} else {
			row = append(row, first, last, g.why(s.say))
		}
		t.Rows = append(t.Rows, row)
	}
	if !isNarrow {
		return t.String()
	}
	// Long addresses and names leave no place for the path, and for the peer.
	for t.Width = s.Width; len(t.Columns) > 3 && !t.Fits(); {
		last := len(t.Columns) - 1
		for i, row := range t.Rows {
			below[i] = row[last] + ", " + below[i]
		}
		t.RemoveColumn(t.Columns[last].Head)
	}
	t.Width = 0
	const indent = "       "
	var b strings.Builder
	for i, line := range slices.Collect(strings.Lines(t.String())) {
		b.WriteString(line)
		if i == 0 {
			continue // the heads
		}
		for _, part := range table.Wrap(below[i-1], max(s.Width-len(indent), 24)) {
			b.WriteString(indent + part + "\n")
		}
	}
	return b.String()
}

// times returns a span of time.
func times(first, last string) string {
	if first == last {
		return first
	}
	return first + "–" + last
}
