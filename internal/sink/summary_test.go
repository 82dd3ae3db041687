package sink

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain/sentence"
	"github.com/closetrace/closetrace/internal/sink/table"
)

// summaryOf returns a summary of the samples and of 1,996 resets.
func summaryOf(o SummaryOptions) *Summary {
	s := &Summary{
		SummaryOptions: o,
		Took:           12345678 * time.Microsecond,
		LostRecords:    1,
		MissedProbes:   1234567,
		Suppressed:     4000,
		Undecodable:    2,
		Unexplained:    3,
		now:            func() time.Time { return at(0) },
	}
	for n := range 1996 {
		e := reset(n)
		s.Add(&e)
	}
	for range 1200 {
		e := *samples()[3]
		s.Add(&e)
	}
	for _, e := range samples() {
		s.Add(e)
	}
	return s
}

func printed(t *testing.T, s *Summary) string {
	t.Helper()
	var out bytes.Buffer
	if err := s.Print(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestSummary(t *testing.T) {
	for _, width := range []int{80, 120, 200} {
		s := summaryOf(SummaryOptions{Width: width})
		golden(t, fmt.Sprintf("summary-%d.txt", width), []byte(printed(t, s)))
		if s.Endings() != 3205 {
			t.Errorf("%d endings", s.Endings())
		}
		chinese := printed(t, summaryOf(SummaryOptions{Width: width, Say: sentence.Chinese}))
		golden(t, fmt.Sprintf("summary-zh-%d.txt", width), []byte(chinese))
		for line := range strings.Lines(chinese) {
			if strings.IndexFunc(line, table.IsChinese) >= 0 { // a row without has made-up names
				fits(t, line, width)
			}
		}
	}
	golden(t, "summary.txt", []byte(printed(t, summaryOf(SummaryOptions{}))))
	colored := printed(t, summaryOf(SummaryOptions{Color: true}))
	if !strings.Contains(colored, "\x1b[31mclose.rst.unread\x1b[39m") {
		t.Errorf("no colour:\n%q", colored)
	}
	if plain := strings.NewReplacer("\x1b[31m", "", "\x1b[33m", "", "\x1b[39m", "").Replace(colored); plain !=
		printed(t, summaryOf(SummaryOptions{})) {
		t.Errorf("colours take room:\n%s", plain)
	}
	ascii := printed(t, summaryOf(SummaryOptions{ASCII: true}))
	if i := strings.IndexFunc(ascii, func(r rune) bool { return r > '~' }); i >= 0 {
		t.Errorf("not ASCII: %q", ascii[i:])
	}
}

// With more groups than rows the most important have theirs. With more groups than are kept, all endings are still
// counted, in coarser groups.
func TestSummaryIsBounded(t *testing.T) {
	s := &Summary{SummaryOptions: SummaryOptions{Rows: 5}}
	for n := range 5 * maxGroups {
		e := reset(n)
		e.Actor = &events.Task{PID: uint32(n), Comm: fmt.Sprintf("p%d", n/2)}
		e.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), 40000)
		s.Add(&e)
	}
	e := *samples()[0]
	for range 3 {
		s.Add(&e)
	}
	var sum uint64
	for _, g := range s.groups.sorted() {
		sum += g.endings
	}
	if sum != 5*maxGroups+3 || len(s.groups.byKey) > 2*maxGroups+2 {
		t.Errorf("%d endings in %d groups", sum, len(s.groups.byKey))
	}
	text := printed(t, s)
	if lines := strings.Count(text, "\n"); lines > 12 || !strings.Contains(text, "\nand ") {
		t.Errorf("%d lines:\n%s", lines, text)
	}
}

// A process with an empty name is not the kernel, also in groups without ids.
func TestSummaryOfProcessWithoutName(t *testing.T) {
	s := &Summary{}
	for n := range 2 * maxGroups {
		e := reset(n)
		e.Actor = &events.Task{PID: uint32(n + 1)}
		s.Add(&e)
	}
	for _, g := range s.groups.sorted() {
		if want := fmt.Sprintf("-[%d]", g.pid); g.process() != want && (g.level != 1 || g.process() != "-") {
			t.Fatalf("process %d at level %d: %q", g.pid, g.level, g.process())
		}
	}
}

// A group whose endings have another reason says how many.
func TestSummaryOfSeveralReasons(t *testing.T) {
	s := &Summary{}
	for n, cause := range []string{"1 B unread", "9 B unread", "other", "5 B unread"} {
		e := reset(n)
		e.Cause = cause
		s.Add(&e)
	}
	if text := printed(t, s); !strings.Contains(text, "1–9 B unread (1 with another reason)\n") {
		t.Errorf("%s", text)
	}
}

func TestSummaryOfNothing(t *testing.T) {
	want := "0 endings in 1s\n0 records lost, 0 probes missed\n"
	if got := printed(t, &Summary{Took: time.Second}); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What the kernel side counted is in the summary; why there is no audit with filters is not, unless asked for.
func TestSummaryWithFilters(t *testing.T) {
	s := &Summary{
		Took: time.Second, Counted: map[events.Path]uint64{events.CloseFINActive: 1200},
		Audit: &Audit{Impossible: FiltersUncounted},
	}
	s.LeaveOut(samples()[0])
	want := "0 endings in 1s\n1,201 endings left out by filters (only counted: 1,200 close.fin.active)\n" +
		"0 records lost, 0 probes missed\n"
	if got := printed(t, s); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.Verbose = true
	if got := printed(t, s); got != want+"audit skipped: "+FiltersUncounted+"\n" {
		t.Errorf("verbose: %q", got)
	}
}

// No line ends between a number and its path.
func TestOrdinaryEndingsWrap(t *testing.T) {
	for width := 40; width < 120; width += 7 {
		s := Summary{SummaryOptions: SummaryOptions{Width: width}}
		for i, path := range []events.Path{"close.fin.active", "close.silent.closed.reset", "close.listen", "recv.fin",
			"close.fin.passive"} {
			for range i + 8 {
				s.Add(&events.Ending{Path: path})
			}
		}
		for line := range strings.Lines(s.ordinary()) {
			line = strings.TrimSuffix(line, "\n")
			if regexp.MustCompile(` [0-9]+$`).MatchString(line) && !strings.HasPrefix(line, "FIN") || table.Width(line) > width ||
				strings.Contains(line, "·") {
				t.Errorf("%d cells: %q", width, line)
			}
		}
	}
}

// Long addresses and names make no row wider than the terminal, and lose nothing.
func TestSummaryOfLongAddresses(t *testing.T) {
	const peer = "2001:db8:1234:5678:9abc:def0:1111:2222"
	for _, comm := range []string{"nginx", "kworker/u64:3-x"} {
		for _, width := range []int{60, 80, 100, 120, 160} {
			s := Summary{SummaryOptions: SummaryOptions{Width: width, Color: true}}
			e := reset(0)
			e.Remote = netip.AddrPortFrom(netip.MustParseAddr(peer), 50000)
			e.Actor = &events.Task{PID: 4194303, Comm: comm}
			s.Add(&e)
			text := s.groupTable()
			for line := range strings.Lines(text) {
				if n := table.Width(strings.TrimSuffix(line, "\n")); n > width && width >= 80 {
					t.Errorf("%d cells of %d: %q", n, width, line)
				}
			}
			for _, want := range []string{peer, comm + "[4194303]", string(e.Path), "B unread"} {
				if !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
					t.Errorf("%d cells: no %s in\n%s", width, want, text)
				}
			}
		}
	}
}
