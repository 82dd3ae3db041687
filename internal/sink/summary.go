package sink

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink/table"
)

// SummaryOptions say how a summary looks.
type SummaryOptions struct {
	Width int // of the terminal in cells; 0 means no limit
	Rows  int // how many lines its groups may have; 0 means 20
	Color bool
	ASCII bool // as in [TableOptions]
	// IsTerminal: it goes to a terminal, which shows ^C where the cursor is.
	IsTerminal bool
	// Verbose adds why the audit is skipped for the filters of the run.
	Verbose bool
	// Say returns a sentence in the language of the reader. Nil: sentences are in English.
	Say func(string) string
	// HidesNoEffect: endings without an effect are not printed, only counted.
	HidesNoEffect bool
}

// Summary counts endings. It is printed at the end of a run: those that deserve attention in groups by path, process,
// service and peer host, all others by path.
type Summary struct {
	SummaryOptions
	Took         time.Duration // duration of the run
	LostRecords  uint64        // records that found the ring buffer full
	MissedProbes uint64        // calls, or returns of calls, that the kernel side did not see
	Suppressed   uint64        // RSTs in reply over the rate that is reported, for example during a port scan
	Undecodable  uint64        // records that could not be decoded
	Unexplained  uint64        // events that no rule covers
	// Unwritten is the largest number of endings that may not have reached the reader of the output: what an
	// interrupted write has written is unknown.
	Unwritten uint64
	// Counted are endings that the kernel side counted by path and did not report, because none of them is shown.
	Counted map[events.Path]uint64
	NoEnd   bool   // the end of the recording, which contains the losses, was not read
	Audit   *Audit // nil: none
	// Parts are those of several recordings: their losses and audits. This summary has no audit then.
	Parts    []*Summary
	Label    string    // of a part
	BothEnds *BothEnds // of recordings of several hosts; nil: of one

	// unresolved is the number of functions in stacks that were not named.
	unresolved uint64

	paths  map[events.Path]*pathCount
	recent *memo[events.Path, *pathCount] // of paths
	total  uint64
	hidden uint64 // by filters

	withoutEffect uint64 // and so not printed

	groups groups
	now    func() time.Time // nil: time.Now
}

type pathCount struct {
	path        events.Path
	endings     uint64
	ordinary    uint64 // of them, those that are in no group
	finSent     uint64
	rstSent     uint64
	rstReceived uint64
}

// Add counts e.
func (s *Summary) Add(e *events.Ending) {
	if s.recent == nil {
		s.recent = newMemo(s.countOf)
	}
	s.total++
	s.groups.services.Learn(e)
	c := s.recent.get(e.Path)
	c.endings++
	if e.Severity() == events.Plain {
		c.ordinary++
	} else {
		s.groups.add(e)
	}
	if s.HidesNoEffect && e.HasNoEffect() {
		s.withoutEffect++
	}
	if e.FIN {
		c.finSent++
	}
	if e.RST {
		c.rstSent++
	}
	if e.ReceivedRST() {
		c.rstReceived++
	}
	if e.Stack != nil {
		s.unresolved += uint64(max(0, e.Stack.Unresolved))
	}
}

func (s *Summary) countOf(path events.Path) *pathCount {
	c := s.paths[path]
	if c == nil {
		if s.paths == nil {
			s.paths = make(map[events.Path]*pathCount)
		}
		c = &pathCount{path: path}
		s.paths[path] = c
	}
	return c
}

// LeaveOut counts an ending that a filter hid.
func (s *Summary) LeaveOut(*events.Ending) { s.hidden++ }

// Endings returns the number of endings that were added.
func (s *Summary) Endings() uint64 { return s.total }

// Print writes the groups, the ordinary endings by path, and the totals. It always writes the losses, even if there are
// none.
func (s *Summary) Print(w io.Writer) error {
	var b strings.Builder
	b.WriteString(s.groupTable())
	b.WriteString(s.ordinary())
	b.WriteString(s.line("%s in %s", events.Quantity(s.total, "ending", "endings"), s.Took.Round(time.Millisecond)))
	if n := s.hidden + s.counted(); n > 0 {
		b.WriteString(s.line("%s left out by filters%s", events.Quantity(n, "ending", "endings"), s.onlyCounted()))
	}
	if n := s.withoutEffect; n > 0 {
		b.WriteString(s.line("%s without an effect not shown; --all shows them", events.Quantity(n, "ending", "endings")))
	}
	b.WriteString(s.remarks())
	for _, line := range s.audits(s.say) {
		b.WriteString(s.wrapped(Tame(line)))
	}
	if s.BothEnds != nil {
		for _, line := range s.BothEnds.Lines() {
			b.WriteString(s.wrapped(Tame(s.say(line))))
		}
	}
	text := b.String()
	if s.ASCII {
		text = ASCII(text)
	}
	_, err := io.WriteString(w, text)
	return err
}

// audits returns the lines of the audit, or of each part. say translates a line, before its label.
func (s *Summary) audits(say func(string) string) (lines []string) {
	if s.Audit != nil {
		for _, line := range s.Audit.lines(s) {
			lines = append(lines, say(line))
		}
	}
	for _, part := range s.Parts {
		if part.NoEnd || part.LostRecords+part.MissedProbes > 0 {
			lines = append(lines, part.Label+": "+say(part.losses()))
		}
		for _, line := range part.audits(say) {
			lines = append(lines, part.Label+": "+line)
		}
	}
	return lines
}

// PrintInterim writes the groups and the ordinary endings so far, under the time.
func (s *Summary) PrintInterim(w io.Writer, o SummaryOptions, now time.Time, took time.Duration) error {
	final := s.SummaryOptions
	s.SummaryOptions = o
	defer func() { s.SummaryOptions = final }()
	text := s.line("%s: %s in %s", now.Local().Format(time.TimeOnly), events.Quantity(s.total, "ending", "endings"),
		took.Round(time.Second)) + s.groupTable() + s.ordinary()
	if s.ASCII {
		text = ASCII(text)
	}
	_, err := io.WriteString(w, text)
	return err
}

// PrintRecorded writes the totals of a run that only recorded events.
func (s *Summary) PrintRecorded(w io.Writer, recorded uint64) error {
	_, err := io.WriteString(w, s.line("%s in %s recorded",
		events.Quantity(recorded, "event", "events"), s.Took.Round(time.Millisecond))+s.remarks())
	return err
}

// line returns a line in the language of the reader.
func (s *Summary) line(format string, values ...any) string {
	return s.say(fmt.Sprintf(format, values...)) + "\n"
}

// say returns a sentence in the language of the reader.
func (s *Summary) say(text string) string {
	if s.Say == nil {
		return text
	}
	return s.Say(text)
}

// remarks returns the lines on what was lost, and on what else is not shown.
func (s *Summary) remarks() string {
	var b strings.Builder
	b.WriteString(s.line("%s", s.losses()))
	for _, line := range []struct {
		n                        uint64
		before, one, many, after string
	}{
		{s.Suppressed, "", "RST reply", "RST replies", "not listed individually (rate limit)"},
		{s.Undecodable, "", "record", "records", "not decoded"},
		{s.Unexplained, "", "event", "events", "not explained"},
		{
			s.unresolved, "", "stack frame", "stack frames",
			"not resolved (file replaced, too large, too slow or damaged): shown as module+offset",
		},
		{s.Unwritten, "up to ", "ending", "endings", "not written"},
	} {
		if line.n > 0 {
			b.WriteString(s.line("%s%s %s", line.before, events.Quantity(line.n, line.one, line.many), line.after))
		}
	}
	return b.String()
}

// counted returns the number of endings that were only counted.
func (s *Summary) counted() (sum uint64) {
	for _, n := range s.Counted {
		sum += n
	}
	return sum
}

// onlyCounted lists the endings that were only counted, by path, or returns "".
func (s *Summary) onlyCounted() string {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(s.Counted)) {
		if n := s.Counted[path]; n > 0 {
			fmt.Fprintf(&b, ", %s %s", events.Grouped(n), path)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return " (only counted: " + b.String()[2:] + ")"
}

// losses returns the line on what was lost.
func (s *Summary) losses() string {
	if s.NoEnd {
		return "losses unknown: the end of the recording was not read"
	}
	return events.Quantity(s.LostRecords, "record", "records") + " lost, " +
		events.Quantity(s.MissedProbes, "probe", "probes") + " missed"
}

// ordinary returns the ordinary endings in one line, the most frequent paths first, and what was sent and received.
func (s *Summary) ordinary() string {
	if s.total == 0 {
		return ""
	}
	const most = 8    // paths in the line
	const bound = "·" // a blank at which no line ends: between a number and its path
	var parts []string
	var sum pathCount
	for _, c := range s.paths {
		sum.finSent += c.finSent
		sum.rstSent += c.rstSent
		sum.rstReceived += c.rstReceived
	}
	all := s.sorted()
	for _, c := range all[:min(most, len(all))] {
		parts = append(parts, events.Grouped(c.ordinary)+bound+foreign(string(c.path)))
	}
	if more := len(all) - most; more > 0 {
		var endings uint64
		for _, c := range all[most:] {
			endings += c.ordinary
		}
		parts = append(parts, events.Grouped(endings)+" of "+events.Quantity(uint64(more), "more path", "more paths"))
	}
	var line string
	if len(parts) > 0 {
		line = s.wrapped(s.say("ordinary: " + strings.Join(parts, ", ")))
		line = strings.ReplaceAll(line, bound, " ")
	}
	return line + s.line("FIN SENT %s, RST SENT %s, RST RECEIVED %s", events.Grouped(sum.finSent),
		events.Grouped(sum.rstSent), events.Grouped(sum.rstReceived))
}

// wrapped returns a line that fits the terminal.
func (s *Summary) wrapped(line string) string {
	if s.Width == 0 {
		return line + "\n"
	}
	return strings.Join(table.Wrap(line, max(s.Width, readable)), "\n") + "\n"
}

// readable is the least width to which lines are wrapped.
const readable = 24

// sorted returns the paths of ordinary endings, the most frequent first.
func (s *Summary) sorted() []*pathCount {
	var all []*pathCount
	for _, c := range s.paths {
		if c.ordinary > 0 {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b *pathCount) int {
		return cmp.Or(cmp.Compare(b.ordinary, a.ordinary), cmp.Compare(a.path, b.path))
	})
	return all
}
