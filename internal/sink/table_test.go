package sink

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/olekukonko/tablewriter/pkg/twwidth"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain/sentence"
)

func rendered(t testing.TB, o TableOptions) string {
	t.Helper()
	var out bytes.Buffer
	tab := NewTable(&out, o)
	tab.now = func() time.Time { return at(0) }
	for _, e := range samples() {
		if err := tab.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTable(t *testing.T) {
	for _, width := range []int{80, 120, 200} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			golden(t, fmt.Sprintf("table-%d.txt", width), []byte(rendered(t, TableOptions{Width: width})))
		})
	}
	for _, width := range []int{80, 120, 200} {
		t.Run(fmt.Sprint("Chinese ", width), func(t *testing.T) {
			got := rendered(t, TableOptions{Width: width, Say: sentence.Chinese})
			golden(t, fmt.Sprintf("table-zh-%d.txt", width), []byte(got))
			fits(t, got, width)
		})
	}
	t.Run("ascii", func(t *testing.T) {
		got := rendered(t, TableOptions{Width: 120, ASCII: true})
		if i := strings.IndexFunc(got, func(r rune) bool { return r >= utf8.RuneSelf }); i >= 0 {
			t.Errorf("not ASCII: %q", got[i:])
		}
		golden(t, "ascii.txt", []byte(got))
	})
	t.Run("unlimited", func(t *testing.T) { golden(t, "table.txt", []byte(rendered(t, TableOptions{}))) })
	t.Run("wide", func(t *testing.T) { golden(t, "wide.txt", []byte(rendered(t, TableOptions{Wide: true}))) })
	t.Run(
		"color",
		func(t *testing.T) { golden(t, "color.txt", []byte(rendered(t, TableOptions{Width: 120, Color: true}))) },
	)
}

// fits checks that no line is wider than a terminal.
func fits(t *testing.T, text string, width int) {
	t.Helper()
	for line := range strings.Lines(text) {
		if w := twwidth.Width(strings.TrimSuffix(line, "\n")); w > width {
			t.Errorf("width %d: %d cells: %s", width, w, line)
		}
	}
}

// Whatever the width, no line is longer, and nothing is cut but a long COMM.
func TestTableFits(t *testing.T) {
	whole := strings.ReplaceAll(rendered(t, TableOptions{}), "\n", " ")
	for width := 70; width < 300; width++ {
		got := rendered(t, TableOptions{Width: width})
		fits(t, got, width)
		for _, word := range strings.Fields(whole) {
			comm := strings.HasPrefix(word, `\x1b`) || strings.HasPrefix(word, "a-comm") || strings.HasPrefix(word, "日本語")
			port := width <= 70 && strings.Contains(word, ":") // LOCAL is its port
			if !comm && !port && !strings.Contains(got, word) {
				t.Errorf("width %d: %s is missing in\n%s", width, word, got)
			}
		}
	}
}

// The most frequent causes fit beside the other columns at 120 columns.
func TestFrequentRowsAreOneLine(t *testing.T) {
	for _, cause := range []string{
		"ECONNRESET; peer python3[12084]: 1,503 B unread", "abortive close (SO_LINGER {1,0}) in ESTABLISHED",
		"all data read; ESTABLISHED → FIN_WAIT1", "peer closed first; CLOSE_WAIT → LAST_ACK",
		"9 B arrived 250 ms after python3[12084] closed", "CLOSE_WAIT; this side has not closed for 10.0 s",
	} {
		e := samples()[0]
		e.Cause, e.Actor = cause, &events.Task{PID: 12084, Comm: "python3"}
		e.Local, e.Remote = addr("127.0.0.1:54619"), addr("10.13.0.11:8080")
		var out bytes.Buffer
		tab := NewTable(&out, TableOptions{Width: 120})
		_ = tab.Write(e)
		_ = tab.Close()
		if strings.Count(out.String(), "\n") != 2 {
			t.Errorf("%s", &out)
		}
	}
}

// The header has the date of rows that are not of today, and comes again when the date changes.
func TestDate(t *testing.T) {
	var out bytes.Buffer
	tab := NewTable(&out, TableOptions{})
	today := time.Date(2026, 11, 22, 0, 0, 5, 0, time.Local)
	tab.now = func() time.Time { return today }
	for _, before := range []time.Duration{time.Hour, time.Minute, time.Second, 0} {
		e := samples()[0]
		e.Time = today.Add(-before)
		_ = tab.Write(e)
	}
	_ = tab.Close()
	var heads []string
	for line := range strings.Lines(out.String()) {
		heads = append(heads, strings.Fields(line)[0])
	}
	want := "2026-11-21 23:00:05.000 23:59:05.000 2026-11-22 00:00:04.000 00:00:05.000"
	if got := strings.Join(heads, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Colours take no room: without them the table is the same.
func TestTableColorsTakeNoRoom(t *testing.T) {
	colors := regexp.MustCompile("\x1b\\[[0-9]+m")
	for _, o := range []TableOptions{{}, {Width: 80}, {Width: 120}, {Wide: true}} {
		plain := rendered(t, o)
		o.Color = true
		colored := rendered(t, o)
		if colored == plain {
			t.Errorf("%+v: no colours", o)
		}
		if got := colors.ReplaceAllString(colored, ""); got != plain {
			t.Errorf("%+v: got\n%s\nwant\n%s", o, got, plain)
		}
	}
}

// Whatever a process calls itself, it is harmless text, and of one line unless
// that is too long.
func TestTableIsSafeForTerminals(t *testing.T) {
	for _, o := range []TableOptions{{}, {Width: 80}, {Width: 120}, {Wide: true}} {
		got := rendered(t, o)
		if !utf8.ValidString(got) {
			t.Errorf("%+v: not UTF-8", o)
		}
		if n := strings.Count(got, "\n"); n != 1+len(samples()) && o.Width == 0 {
			t.Errorf("%+v: %d lines", o, n)
		}
		for _, r := range strings.ReplaceAll(got, "\n", "") {
			if !unicode.IsPrint(r) {
				t.Errorf("%+v: %U reaches the terminal", o, r)
			}
		}
	}
}

func TestTableNarrowerThanItsColumns(t *testing.T) {
	for width := range 70 {
		rendered(t, TableOptions{Width: width})
	}
}

func TestTableTellsThatItsWriterFailed(t *testing.T) {
	broken := errors.New("broken pipe")
	tab := NewTable(failing{broken}, TableOptions{})
	if err := tab.Write(samples()[0]); err != nil {
		t.Errorf("before the flush: %v", err)
	}
	if err := tab.Flush(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"nginx":          "nginx",
		"größe →":        "größe →",
		"\x1b]0;pwned\a": `\x1b]0;pwned\x07`,
		"a\nb\tc\r\x7f":  `a\x0ab\x09c\x0d\x7f`,
		"\xff\xc3(":      `\xff\xc3(`,
		`a\x1b`:          `a\\x1b`,
		"\u202egnp.exe":  `\u202egnp.exe`,
		"\u009b2J":       `\u009b2J`,
		"\U000e0001":     `\U000e0001`,
		"a\ufffdb":       "a\ufffdb",
		"":               "",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestAddress(t *testing.T) {
	tests := []struct {
		in       string
		onlyPort bool
		want     string
	}{
		{"10.0.0.5:443", false, "10.0.0.5:443"},
		{"10.0.0.5:443", true, ":443"},
		{"[::ffff:10.0.0.5]:443", false, "10.0.0.5:443"},
		{"0.0.0.0:0", false, "0.0.0.0:*"},
		{"[::]:0", false, "[::]:*"},
		{"[2001:db8::1]:443", false, "[2001:db8::1]:443"},
		{"[2001:db8:1:2:3:4:5:6]:51234", false, "[2001:db8:1:2:3:4:5:6]:51234"},
		{"[2001:db8:1:2:3:4:5:6]:51234", true, ":51234"},
	}
	for _, tt := range tests {
		got := string(appendAddress(nil, addr(tt.in), tt.onlyPort, nil))
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
	}
	if got := string(appendAddress(nil, netip.AddrPort{}, false, nil)); got != "-" {
		t.Errorf("no address: got %s", got)
	}
}

func BenchmarkTable(b *testing.B) {
	tab := NewTable(discard{}, TableOptions{Width: 160})
	e := samples()[0]
	b.ReportAllocs()
	for b.Loop() {
		if err := tab.Write(e); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
