package sink

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/olekukonko/tablewriter/pkg/twwidth"
)

func table(t testing.TB, o TableOptions) string {
	t.Helper()
	twwidth.SetEastAsian(false)
	var out bytes.Buffer
	tab, err := NewTable(&out, o)
	if err != nil {
		t.Fatal(err)
	}
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
			golden(t, fmt.Sprintf("table-%d.txt", width), []byte(table(t, TableOptions{Width: width})))
		})
	}
	t.Run("unlimited", func(t *testing.T) { golden(t, "table.txt", []byte(table(t, TableOptions{}))) })
	t.Run("wide", func(t *testing.T) { golden(t, "wide.txt", []byte(table(t, TableOptions{Wide: true}))) })
	t.Run("color", func(t *testing.T) { golden(t, "color.txt", []byte(table(t, TableOptions{Width: 120, Color: true}))) })
}

// Whatever the width, no line is longer, and nothing is cut but a long COMM.
func TestTableFits(t *testing.T) {
	whole := strings.ReplaceAll(table(t, TableOptions{}), "\n", " ")
	for width := 70; width < 300; width++ {
		got := table(t, TableOptions{Width: width})
		for line := range strings.Lines(got) {
			if w := twwidth.Width(strings.TrimSuffix(line, "\n")); w > width {
				t.Errorf("width %d: %d cells: %s", width, w, line)
			}
		}
		for _, word := range strings.Fields(whole) {
			comm := strings.HasPrefix(word, `\x1b`) || strings.HasPrefix(word, "a-comm") || strings.HasPrefix(word, "日本語")
			port := width <= 70 && strings.Contains(word, ":") // LOCAL is its port
			if !comm && !port && !strings.Contains(got, word) {
				t.Errorf("width %d: %s is missing in\n%s", width, word, got)
			}
		}
	}
}

// Colours take no room: without them the table is the same.
func TestTableColorsTakeNoRoom(t *testing.T) {
	colors := regexp.MustCompile("\x1b\\[[0-9]+m")
	for _, o := range []TableOptions{{}, {Width: 80}, {Width: 120}, {Wide: true}} {
		plain := table(t, o)
		o.Color = true
		colored := table(t, o)
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
		got := table(t, o)
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
		table(t, TableOptions{Width: width})
	}
}

func TestTableTellsThatItsWriterFailed(t *testing.T) {
	broken := errors.New("broken pipe")
	tab, err := NewTable(failing{broken}, TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
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
		in    string
		width int
		want  string
	}{
		{"10.0.0.5:443", 0, "10.0.0.5:443"},
		{"10.0.0.5:443", 6, ":443"},
		{"192.168.100.200:51234", 15, "192.168.100.200:51234"},
		{"[::ffff:10.0.0.5]:443", 0, "10.0.0.5:443"},
		{"0.0.0.0:0", 21, "0.0.0.0:*"},
		{"[::]:0", 21, "[::]:*"},
		{"[2001:db8::1]:443", 17, "[2001:db8::1]:443"},
		{"[2001:db8:1:2:3:4:5:6]:51234", 21, "[2001:db8:1:2:3:4:5:6]:51234"},
		{"[2001:db8:1:2:3:4:5:6]:51234", 6, ":51234"},
	}
	for _, tt := range tests {
		got := string(appendAddress(nil, addr(tt.in), tt.width, nil))
		if got != tt.want {
			t.Errorf("%s in %d: got %s, want %s", tt.in, tt.width, got, tt.want)
		}
	}
	if got := string(appendAddress(nil, netip.AddrPort{}, 0, nil)); got != "-" {
		t.Errorf("no address: got %s", got)
	}
}

func BenchmarkTable(b *testing.B) {
	tab, err := NewTable(discard{}, TableOptions{Width: 160})
	if err != nil {
		b.Fatal(err)
	}
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
