package sink

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// collapsed returns the lines that a terminal shows of endings, and how often it is said that rows are shared.
func collapsed(t *testing.T, width int, all ...events.Ending) (lines []string, notices int) {
	t.Helper()
	var out, stderr bytes.Buffer
	c := NewCollapsed(NewTable(&out, TableOptions{Width: width}), &stderr)
	for i := range all {
		e := all[i]
		if err := c.Write(&e); err != nil {
			t.Fatal(err)
		}
		e.Cause, e.Actor = "overwritten", nil // an ending is valid during Write only
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")[1:], strings.Count(stderr.String(), rowsAreShared)
}

// reset is the n-th of resets that a server sends to clients of one host, one each 90 µs.
func reset(n int) events.Ending {
	const begin = 5_000_000_000_000
	return events.Ending{
		Time: time.Date(2026, 11, 21, 12, 1, 2, 0, time.Local).Add(time.Duration(n) * 90 * time.Microsecond),
		Path: events.CloseRSTUnread, Title: "close → RST", RST: true, MonoNS: begin + uint64(n)*90_000,
		Cause: fmt.Sprintf("%s B unread in the receive queue", events.Grouped(uint64(100+n%1400))),
		Actor: &events.Task{PID: 4211, Comm: "nginx"},
		Local: addr("10.0.0.5:443"), Remote: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), uint16(33000+n%20000)),
	}
}

// 10,000 resets in a second are readable, and all of them are counted.
func TestBurstIsReadable(t *testing.T) {
	const resets = 10_000
	var all []events.Ending
	for n := range resets {
		all = append(all, reset(n))
	}
	for _, width := range []int{70, 80, 120, 200} {
		lines, notices := collapsed(t, width, all...)
		if len(lines) > 60 || notices != 1 {
			t.Errorf("%d lines, %d notices:\n%s", len(lines), notices, strings.Join(lines, "\n"))
		}
		if counted := countOf(t, lines); counted != resets {
			t.Errorf("the rows stand for %d endings:\n%s", counted, strings.Join(lines, "\n"))
		}
		last := strings.Join(lines[len(lines)-3:], " ")
		for _, want := range []string{
			" 10.0.0.9:* ", "close → RST ×9,9", "–1,499 B unread in the receive queue",
		} {
			if !strings.Contains(last, want) {
				t.Errorf("width %d: %q is not in %s", width, want, last)
			}
		}
	}
}

// A burst of several seconds has no single rows from its second second on, and single rows come back after it.
func TestLongBurst(t *testing.T) {
	var all []events.Ending
	for n := range 40_000 { // 3.6 s
		all = append(all, reset(n))
	}
	for n := range 3 {
		e := reset(100_000 + n)
		e.Cause = "after it"
		all = append(all, e)
	}
	rows, notices := collapsed(t, 200, all...)
	if len(rows) != maxLines+4+3 || notices != 1 {
		t.Errorf("%d rows, %d notices:\n%s", len(rows), notices, strings.Join(rows, "\n"))
	}
	if counted := countOf(t, rows); counted != 40_003 {
		t.Errorf("the rows stand for %d endings", counted)
	}
	for _, row := range rows[len(rows)-3:] {
		if !strings.HasSuffix(row, "after it") || strings.Contains(row, "×") {
			t.Errorf("after the burst: %s", row)
		}
	}
}

// In a second after a burst that has few endings, each has its row.
func TestSecondAfterBurst(t *testing.T) {
	var all []events.Ending
	for n := range 60 {
		all = append(all, reset(n))
	}
	for n := range 5 {
		e := reset(12_000 + n) // 1.08 s after the first
		e.Cause = "1 B unread"
		all = append(all, e)
	}
	rows, _ := collapsed(t, 200, all...)
	if len(rows) != maxLines+1+5 {
		t.Errorf("%d rows:\n%s", len(rows), strings.Join(rows, "\n"))
	}
	for i, row := range rows[maxLines+1:] {
		if want := fmt.Sprintf("10.0.0.9:%d ", 33000+12_000+i); !strings.Contains(row, want) {
			t.Errorf("row %d: %s", i, row)
		}
	}
}

// With more kinds of endings than rows, abnormal ones and frequent ones have theirs, and the rest is counted.
func TestBurstOfManyKinds(t *testing.T) {
	for _, kinds := range []int{100, 3 * maxBurstGroups} {
		var all []events.Ending
		for n := range kinds {
			e := reset(n)
			e.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), 40000)
			e.Path, e.Title, e.RST, e.Cause = events.CloseFINActive, "close → FIN", false, "all data read"
			all = append(all, e)
		}
		all = append(all, reset(kinds), reset(kinds+1))
		rows, _ := collapsed(t, 200, all...)
		if len(rows) > 60 {
			t.Errorf("%d rows", len(rows))
		}
		if counted := countOf(t, rows); counted != kinds+2 {
			t.Errorf("the rows stand for %d endings, not %d:\n%s", counted, kinds+2, strings.Join(rows, "\n"))
		}
		if got := strings.Join(rows, "\n"); kinds == 100 && !strings.Contains(got, "close → RST ×2") {
			t.Errorf("the abnormal endings have no row:\n%s", got)
		}
	}
}

// What is kept is written when its second is over, also without another ending.
func TestBurstEndsWithItsSecond(t *testing.T) {
	var out bytes.Buffer
	now := time.Now()
	c := NewCollapsed(NewTable(&out, TableOptions{}), io.Discard)
	c.now = func() time.Time { return now }
	for n := range 70 {
		e := reset(n)
		if err := c.Write(&e); err != nil {
			t.Fatal(err)
		}
	}
	lines := func() int {
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		return strings.Count(out.String(), "\n")
	}
	if got := lines(); got != 1+maxLines {
		t.Errorf("%d lines within the second", got)
	}
	now = now.Add(time.Second)
	if got := lines(); got != 1+maxLines+1 {
		t.Errorf("%d lines after the second", got)
	}
}

// countOf returns for how many endings rows stand.
func countOf(t *testing.T, rows []string) (sum int) {
	t.Helper()
	several := regexp.MustCompile(` ×([0-9,]+)|and ([0-9,]+) more endings?`)
	text := regexp.MustCompile(`\n {3,}(and )?`).ReplaceAllStringFunc(strings.Join(rows, "\n"), func(indent string) string {
		if strings.HasSuffix(indent, "and ") {
			return indent
		}
		return " " // a row goes on
	})
	for row := range strings.SplitSeq(text, "\n") {
		match := several.FindStringSubmatch(row)
		switch {
		case match != nil:
			n, err := strconv.Atoi(strings.ReplaceAll(match[1]+match[2], ",", ""))
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		case regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3} `).MatchString(row):
			sum++
		}
	}
	return sum
}

func TestNumbers(t *testing.T) {
	for _, tt := range []struct{ a, b, want string }{
		{"148 B unread", "1,503 B unread", "148–1,503 B unread"},
		{"9 B arrived 250 ms after a[7] closed", "9 B arrived 1.2 s after a[7] closed", "9 B arrived 250 ms–1.2 s after a[7] closed"},
		{"1.5 s", "900 ms", "900 ms–1.5 s"},
		{"40 ms", "7 ms", "7–40 ms"},
		{"sent by python3[12]; 3 B", "sent by python3[13]; 3 B", "sent by python3[…]; 3 B"},
		{"TCP_USER_TIMEOUT (700 ms) expired", "TCP_USER_TIMEOUT (800 ms) expired", "TCP_USER_TIMEOUT (700–800 ms) expired"},
		{"SO_LINGER {1,0} in FIN_WAIT1, close(2)", "SO_LINGER {1,0} in FIN_WAIT1, close(2)", "SO_LINGER {1,0} in FIN_WAIT1, close(2)"},
		{"to 10.0.0.5:443", "to 10.0.0.5:80", "to 10.0.0.5:…"},
		{"no number", "no number", "no number"},
		{"5", "5 ", ""},
		{"1 connection", "2 connections", ""},
		{"FIN_WAIT1", "FIN_WAIT2", ""},
		{"", "", ""},
	} {
		a, b := numbersOf(tt.a), numbersOf(tt.b)
		if a.String() != tt.a || b.String() != tt.b {
			t.Errorf("alone: got %q and %q", a, b)
		}
		got := ""
		if a.shape == b.shape {
			wide := a.copied()
			wide.widen(b)
			got = wide.String()
		}
		if got != tt.want {
			t.Errorf("%q and %q: got %q, want %q", tt.a, tt.b, got, tt.want)
		}
	}
}

func FuzzNumbers(f *testing.F) {
	f.Add("9 B arrived 1.2 s after a[7] closed\x00", "1,,..2 ms")
	f.Fuzz(func(t *testing.T, a, b string) {
		first, second := numbersOf(a), numbersOf(b)
		if first.String() != a {
			t.Errorf("%q becomes %q", a, first)
		}
		if first.shape == second.shape {
			wide := first.copied()
			wide.widen(second)
			_ = wide.String()
		}
	})
}

func TestServicePort(t *testing.T) {
	var s events.Services
	port := func(local, remote string) string {
		p, isLocal := s.Port(&events.Ending{Local: addr(local), Remote: addr(remote)})
		return fmt.Sprint(p, isLocal)
	}
	for _, tt := range []struct{ local, remote, want string }{
		{"10.0.0.5:443", "10.0.0.9:51234", "443 true"},
		{"10.0.0.9:51234", "10.0.0.5:443", "443 false"},
		{"10.0.0.5:8080", "10.0.0.9:80", "80 false"},
		{"10.0.0.5:8080", "0.0.0.0:0", "8080 true"},
		{"0.0.0.0:0", "0.0.0.0:0", "0 true"},
		{"10.0.0.5:50000", "10.0.0.9:50001", "50000 true"}, // unknown
		{"10.0.0.5:50000", "10.0.0.9:40000", "50000 true"}, // it has had two endings
		{"10.0.0.9:40001", "10.0.0.5:50000", "50000 false"},
		{"10.0.0.5:30001", "10.0.0.9:45000", "30001 true"}, // a guess, which is wrong: see below
	} {
		if got := port(tt.local, tt.remote); got != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.local, tt.remote, got, tt.want)
		}
	}
	// Which end accepted is known of some, and then of others with the same port.
	known := events.Ending{Local: addr("10.0.0.5:30001"), Remote: addr("10.0.0.9:45000"), Service: events.EndRemote}
	if p, isLocal := s.Port(&known); p != 45000 || isLocal {
		t.Errorf("got %d, %v", p, isLocal)
	}
	known = events.Ending{Local: addr("10.0.0.5:60000"), Remote: addr("10.0.0.9:80"), Service: events.EndLocal}
	if p, isLocal := s.Port(&known); p != 60000 || !isLocal {
		t.Errorf("got %d, %v", p, isLocal)
	}
	if got := port("10.0.0.5:30001", "10.0.0.9:45000"); got != "45000 false" {
		t.Errorf("got %s", got)
	}
}
