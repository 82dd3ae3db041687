package sink

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink/table"
	"github.com/closetrace/closetrace/internal/sockets"
	"github.com/closetrace/closetrace/internal/stuck"
)

// Stuck writes lists of sockets that do not close: a table of groups, a table of sockets, or JSON lines.
type Stuck struct {
	to       io.Writer
	options  StuckOptions
	lists    int             // printed so far
	previous *stuck.Grouping // of the last list
}

// StuckOptions say how lists of sockets look.
type StuckOptions struct {
	JSON bool // one socket per line
	Wide bool // a row per socket, not per group
	// Repeated: more lists follow. Each begins with the time, and groups show how much they grew.
	Repeated bool
	Source   string // of the sockets, for JSON
	Color    bool   // of the diagnosis: whether this side or the peer has to act
	Width    int    // of the terminal in cells; 0 means no limit
	// Say returns WHY in the language of the reader. Nil: it is in English. JSON always is.
	Say   func(string) string
	ASCII bool // as in [TableOptions]
}

// NewStuck returns a sink that writes to w.
func NewStuck(w io.Writer, o StuckOptions) *Stuck {
	if o.Say == nil {
		o.Say = asIs
	}
	return &Stuck{to: w, options: o}
}

// Print writes one list. It returns a line for standard error if groups were left out.
func (s *Stuck) Print(r *stuck.Report) (left string, err error) {
	s.lists++
	out := bufio.NewWriterSize(s.to, stuckBuffer)
	switch {
	case s.options.JSON:
		err = s.printJSON(out, r)
	case s.options.Wide:
		s.printTime(out, r)
		err = s.everySocket(out, r)
	default:
		s.printTime(out, r)
		now := stuck.Groups(r.Findings())
		if now.MoreGroups > 0 {
			left = fmt.Sprintf("closetrace: %s with %s not shown, the smallest; -o wide and -o json list every socket\n",
				events.Quantity(uint64(now.MoreGroups), "group", "groups"),
				events.Quantity(uint64(now.MoreSockets), "socket", "sockets"))
		}
		_, err = io.WriteString(out, fitted(s.groups(now)))
	}
	return left, cmp.Or(err, out.Flush())
}

// StuckNotes returns what a list lacks, a line for each reason: hidden sockets are not known to be old enough.
func StuckNotes(s *sockets.Snapshot, hidden int, minAge time.Duration) string {
	var notes strings.Builder
	if hidden > 0 {
		fmt.Fprintf(&notes, "closetrace: %s hidden: younger than %s or age unknown\n",
			events.Quantity(uint64(hidden), "socket", "sockets"), minAge)
	}
	if s.HiddenProcesses > 0 {
		fmt.Fprintf(&notes, "closetrace: holders may be missing: the descriptors of %s may not be read\n",
			events.Quantity(uint64(s.HiddenProcesses), "process", "processes"))
	}
	if s.Incomplete {
		notes.WriteString("closetrace: sockets may be missing: some changed while they were listed\n")
	}
	return notes.String()
}

// printTime begins a list of several.
func (s *Stuck) printTime(out io.Writer, r *stuck.Report) {
	if !s.options.Repeated {
		return
	}
	if s.lists > 1 {
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%s  %s not closed\n",
		time.Now().Format(time.TimeOnly), events.Quantity(uint64(r.Len()), "socket", "sockets"))
}

// stuckLine is a socket in JSON.
type stuckLine struct {
	Schema int    `json:"schema_version"`
	Time   string `json:"time"`
	Source string `json:"source"`
	*stuck.Finding
}

// stuckBuffer is how many bytes are kept before they are written: a host may have 100,000s of sockets.
const stuckBuffer = 1 << 16

func (s *Stuck) printJSON(out io.Writer, r *stuck.Report) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z07:00")
	for f := range r.Findings() {
		if err := enc.Encode(stuckLine{events.SchemaVersion, now, s.options.Source, f}); err != nil {
			return err
		}
	}
	return nil
}

// groups returns a table with a row per group.
func (s *Stuck) groups(now *stuck.Grouping) *table.Table {
	all, growth := now.Growth(s.previous)
	s.previous = now
	t := &table.Table{Columns: []table.Column{
		{Head: "COUNT", Right: true}, {Head: "GROWTH", Right: true}, {Head: "OLDEST", Right: true}, {Head: "STATE"},
		{Head: "PID", Right: true}, {Head: "COMM"}, {Head: "SERVICE"}, {Head: "UNREAD", Right: true},
		{Head: "UNSENT", Right: true}, {Head: "UNACKED", Right: true}, {Head: "DIAGNOSIS"},
		{Head: "WHY (OLDEST)", Wrap: true},
	}, Width: s.options.Width}
	for i, g := range all {
		pid, comm, grown := absent, absent, absent
		if g.PID != 0 {
			pid, comm = strconv.Itoa(int(g.PID)), cmp.Or(s.shown(g.Comm), absent)
		}
		if s.lists > 1 {
			grown = fmt.Sprintf("%+d", growth[i])
		}
		t.Rows = append(t.Rows, []string{
			strconv.Itoa(g.Count), grown, s.shown(ageText(g.Oldest, g.Exact)), g.State.String(), pid, comm, g.Service,
			decimal(g.Unread), decimal(g.Unsent), decimal(g.Unacked), s.diagnosis(g.Diagnosis), s.why(g.Why),
		})
	}
	if !s.options.Repeated {
		t.RemoveColumn("GROWTH")
	}
	return t
}

// fitted returns a table of groups in the width of the terminal. If it is too narrow for all columns, WHY stands below
// each group, which has the numbers of bytes as well.
func fitted(t *table.Table) string {
	if t.Fits() {
		return t.String()
	}
	why := t.Columns[len(t.Columns)-1]
	t.Columns[len(t.Columns)-1] = table.Column{} // its width does not count
	whys := make([]string, len(t.Rows))
	for i, row := range t.Rows {
		whys[i], row[len(row)-1] = row[len(row)-1], ""
	}
	for _, head := range []string{"UNACKED", "UNSENT", "UNREAD"} {
		if !t.Fits() {
			t.RemoveColumn(head)
		}
	}
	t.Columns[len(t.Columns)-1] = why
	for i, row := range t.Rows {
		row[len(row)-1] = whys[i]
	}
	return t.Stacked()
}

// rowsAtOnce is how many sockets are laid out together.
const rowsAtOnce = 1000

// everySocket prints a table with a row per socket. Of many, the parts share the widths of their columns.
func (s *Stuck) everySocket(out io.Writer, r *stuck.Report) error {
	t := &table.Table{Columns: []table.Column{
		{Head: "AGE", Right: true}, {Head: "STATE"}, {Head: "LOCAL"}, {Head: "REMOTE"}, {Head: "HELD BY"},
		{Head: "UNREAD", Right: true}, {Head: "EOF"}, {Head: "UNSENT", Right: true}, {Head: "UNACKED", Right: true},
		{Head: "NETNS", Right: true}, {Head: "DIAGNOSIS"}, {Head: "WHY", Wrap: true},
	}, Width: s.options.Width}
	if r.Len() > rowsAtOnce {
		for f := range r.Findings() {
			for i, cell := range s.socketRow(f) {
				if c := &t.Columns[i]; !c.Wrap {
					c.Min = max(c.Min, table.Width(cell), table.Width(c.Head))
				}
			}
		}
	}
	left := r.Len()
	for f := range r.Findings() {
		t.Rows = append(t.Rows, s.socketRow(f))
		if left--; left > 0 && len(t.Rows) < rowsAtOnce {
			continue
		}
		if err := t.Print(out); err != nil {
			return err
		}
		t.Rows = t.Rows[:0]
		for i := range t.Columns {
			t.Columns[i].Head = ""
		}
	}
	if r.Len() == 0 {
		return t.Print(out)
	}
	return nil
}

// socketRow returns the cells of a socket.
func (s *Stuck) socketRow(f *stuck.Finding) []string {
	return []string{
		s.shown(ageText(f.Age, f.Exact != nil)), f.State.String(), f.Local.String(), peer(f.Remote),
		s.shown(heldBy(f.Holders)),
		decimal(f.Unread), eofText(f.EOFRead), decimal(f.Unsent), decimal(f.Unacked),
		decimal(f.Netns), s.diagnosis(f.Diagnosis), s.why(f.Why),
	}
}

// diagnosis returns a diagnosis in the colour of an error if this side has to act.
func (s *Stuck) diagnosis(d stuck.Diagnosis) string {
	if !s.options.Color || d.WaitsForPeer() {
		return string(d)
	}
	return Paint(string(d), events.Severe)
}

// why returns a reason in the language of the reader.
func (s *Stuck) why(english string) string { return s.shown(s.options.Say(english)) }

// shown returns a text in a form that the terminal shows.
func (s *Stuck) shown(text string) string {
	if text = Tame(text); s.options.ASCII {
		return ASCII(text)
	}
	return text
}

func decimal[N uint32 | uint64](n N) string { return strconv.FormatUint(uint64(n), 10) }

// ageText returns an age, with "≥" in front if it is only known to be at least that.
func ageText(age *stuck.Milliseconds, exact bool) string {
	if age == nil {
		return absent
	}
	least := "≥"
	if exact {
		least = ""
	}
	unit := 100 * time.Millisecond
	if age.Duration() >= time.Minute {
		unit = time.Second
	}
	return least + age.Duration().Truncate(unit).String()
}

// peer returns the address of the peer, which a listener does not have.
func peer(remote netip.AddrPort) string {
	if !remote.IsValid() {
		return absent
	}
	return remote.String()
}

func eofText(read *bool) string {
	switch {
	case read == nil:
		return absent
	case *read:
		return "read"
	}
	return "unread"
}

// heldBy returns comm[pid]:fd or comm[pid/tid]:fd of each holder, without blanks between them.
func heldBy(holders []sockets.Holder) string {
	var words []string
	for _, h := range holders {
		var fds []string
		for _, fd := range h.FDs {
			fds = append(fds, strconv.Itoa(fd))
		}
		words = append(words, fmt.Sprintf("%s[%s]:%s", Tame(h.Comm), h.ID(), strings.Join(fds, "+")))
	}
	return cmp.Or(strings.Join(words, ","), absent)
}
