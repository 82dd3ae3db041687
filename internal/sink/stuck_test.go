package sink

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink/table"
	"github.com/closetrace/closetrace/internal/sockets"
	"github.com/closetrace/closetrace/internal/stuck"
)

// largestWrite counts lines and remembers the longest write.
type largestWrite struct{ lines, longest int }

func (w *largestWrite) Write(p []byte) (int, error) {
	w.lines += bytes.Count(p, []byte("\n"))
	w.longest = max(w.longest, len(p))
	return len(p), nil
}

// manySockets returns a report of n sockets of one leak.
func manySockets(n int) *stuck.Report {
	from := &sockets.Snapshot{Sockets: &sockets.List{}, Holders: &sockets.Holders{}}
	holder := from.Holders.Add(sockets.Holder{PID: 4211, Comm: "server", Age: time.Hour})
	remote := netip.MustParseAddr("10.0.0.9")
	for i := range n {
		from.Sockets.Add(&sockets.Socket{
			Local: netip.MustParseAddrPort("10.0.0.5:8080"), Remote: netip.AddrPortFrom(remote, uint16(i)),
			State: events.CloseWait, Inode: uint64(i + 1), LastHeard: time.Second,
		})
		from.Holders.Hold(holder, uint64(i+1), i)
	}
	return stuck.NewReport(from, &stuck.Filter{}, 0)
}

// Each form is written while it is made: 20,000 sockets take 64 KB, not 6 MB.
func TestStuckIsStreamed(t *testing.T) {
	const n = 20_000
	r := manySockets(n)
	for _, tt := range []struct {
		options StuckOptions
		lines   int
	}{{StuckOptions{JSON: true}, n}, {StuckOptions{Wide: true}, n + 1}, {StuckOptions{}, 1001}} {
		var to largestWrite
		left, err := NewStuck(&to, tt.options).Print(r)
		if err != nil {
			t.Fatal(err)
		}
		if to.lines != tt.lines || to.longest > 1<<18 {
			t.Errorf("%+v: %d lines, at most %d bytes at once", tt.options, to.lines, to.longest)
		}
		want := ""
		if !tt.options.JSON && !tt.options.Wide {
			want = "closetrace: 19,000 groups with 19,000 sockets not shown, the smallest; " +
				"-o wide and -o json list every socket\n"
		}
		if left != want {
			t.Errorf("%+v: left out: %q", tt.options, left)
		}
	}
}

// WHY is in the language of the reader, and on a terminal that has only ASCII so are the signs. JSON is in English.
func TestStuckSpeaks(t *testing.T) {
	r := manySockets(1)
	for _, o := range []StuckOptions{{Wide: true}, {}, {JSON: true}} {
		var chinese, plain bytes.Buffer
		o.Say = func(english string) string { return "原因：" + english }
		if _, err := NewStuck(&chinese, o).Print(r); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(chinese.String(), "原因：everything was read") == o.JSON {
			t.Errorf("got %s", chinese.String())
		}
		o.Say, o.ASCII = nil, true
		if _, err := NewStuck(&plain, o).Print(r); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(chinese.String(), "≥1s") == o.JSON || strings.Contains(plain.String(), "≥") ||
			!o.JSON && !strings.Contains(plain.String(), ">=1s") {
			t.Errorf("got %s\n%s", chinese.String(), plain.String())
		}
	}
}

// On a narrow terminal nothing is lost but numbers of bytes, and no line is too long.
func TestStuckFits(t *testing.T) {
	for _, width := range []int{80, 100, 120, 200} {
		var text bytes.Buffer
		if _, err := NewStuck(&text, StuckOptions{Width: width, Color: true}).Print(manySockets(3)); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text.String()) {
			if n := table.Width(strings.TrimSuffix(line, "\n")); n > width {
				t.Errorf("%d cells of %d: %q", n, width, line)
			}
		}
		if n := strings.Count(text.String(), "everything was read"); n != 3 {
			t.Errorf("at %d cells, %d of 3 reasons:\n%s", width, n, text.String())
		}
		if strings.Contains(text.String(), "UNACKED") != (width >= 100) {
			t.Errorf("at %d cells:\n%s", width, text.String())
		}
	}
}

// The parts of a table with a row per socket share the widths of their columns.
func TestStuckWideInParts(t *testing.T) {
	var text bytes.Buffer
	if _, err := NewStuck(&text, StuckOptions{Wide: true}).Print(manySockets(12_000)); err != nil {
		t.Fatal(err)
	}
	column := -1
	for line := range strings.Lines(text.String()) {
		before, _, _ := strings.Cut(line, "leaked")
		if column < 0 {
			before, _, _ = strings.Cut(line, "DIAGNOSIS")
			column = table.Width(before)
		}
		if at := table.Width(before); at != column {
			t.Fatalf("column %d, not %d: %s", at, column, line)
		}
	}
}
