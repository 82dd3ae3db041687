package screen

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/top"
)

// testView is a screen without a terminal: of processes 1 to n, of which each has
// ended as many connections as its id.
func testView(t *testing.T, n int) *view {
	t.Helper()
	counts := NewCounts(func() uint64 { return 5e9 })
	for pid := range n {
		for range pid + 1 {
			e := &events.Ending{
				Path: "close.rst.linger0", Title: "close → RST", Cause: "SO_LINGER {1,0}", RST: true,
				Actor: &events.Task{PID: uint32(pid + 1), Comm: "ev\x1b]0;il\a"},
				Local: netip.MustParseAddrPort("[2001:db8::1]:443"), Remote: netip.MustParseAddrPort("10.0.0.9:5000"),
			}
			if err := counts.Write(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	v := newView(counts, Options{
		Losses: func() Losses { return Losses{LostRecords: 1, MissedProbes: 23} },
		Kernel: "6.1.0", Attach: "fentry", By: top.ByProcess, Sort: top.ByTotal,
	})
	v.Init()
	v.Update(tea.WindowSizeMsg{Width: 100, Height: 12})
	return v
}

func press(v *view, keys ...tea.Key) string {
	for _, k := range keys {
		v.Update(tea.KeyPressMsg(k))
	}
	return v.View().Content
}

var (
	keyEnter = tea.Key{Code: tea.KeyEnter}
	keyDown  = tea.Key{Code: tea.KeyDown}
	keyUp    = tea.Key{Code: tea.KeyUp}
	keyEsc   = tea.Key{Code: tea.KeyEscape}
	keySpace = tea.Key{Code: tea.KeySpace, Text: " "}
	keyHome  = tea.Key{Code: tea.KeyHome}
	keyEnd   = tea.Key{Code: tea.KeyEnd}
	keyS     = tea.Key{Code: 's', Text: "s"}
	keyE     = tea.Key{Code: 'e', Text: "e"}

	keyPageUp   = tea.Key{Code: tea.KeyPgUp}
	keyPageDown = tea.Key{Code: tea.KeyPgDown}
)

// typed returns the keys of a text.
func typed(text ...string) (keys []tea.Key) {
	for _, s := range text {
		keys = append(keys, tea.Key{Code: rune(s[0]), Text: s})
	}
	return keys
}

// The screen fits a terminal of any size, and shows the losses.
func TestViewFits(t *testing.T) {
	v := testView(t, 30)
	for width := 20; width < 150; width += 13 {
		for height := 3; height < 40; height += 4 {
			v.Update(tea.WindowSizeMsg{Width: width, Height: height})
			for _, key := range []tea.Key{keyEnter, keyEsc} {
				screen := press(v, key)
				if w, h := lipgloss.Width(screen), lipgloss.Height(screen); w > width || h > height {
					t.Errorf("%d by %d for %d by %d", w, h, width, height)
				}
				if line := strings.Split(screen, "\n")[min(1, max(height-leastForTitle+1, 0))]; strings.Contains(line, "ending") &&
					!regexp.MustCompile(`(?:endings?|/s|errors?|sent|received) *$`).MatchString(line) && width > 50 {
					t.Errorf("%d by %d: %q is cut", width, height, line)
				}
				if want := "1 record lost, 23 probes missed"; width > len(want) && !strings.Contains(screen, want) {
					t.Errorf("%d by %d: %s is not shown", width, height, want)
				}
				if strings.Contains(screen, "\x1b]") || strings.Contains(screen, "\a") {
					t.Error("a comm commands the terminal")
				}
			}
		}
	}
}

// A terminal that has only ASCII gets nothing else.
func TestViewInASCII(t *testing.T) {
	v := testView(t, 3)
	v.By = top.ByPath
	table, inside := press(v), press(v, keyEnter)
	if !strings.Contains(table, "close → RST") || !strings.Contains(inside, "close → RST") ||
		!strings.Contains(table, "↑↓") {
		t.Errorf("no arrow on\n%s\n%s", table, inside)
	}
	v.ASCII = true
	inside, table = press(v), press(v, keyEsc)
	for _, screen := range []string{table, inside} {
		if strings.ContainsFunc(screen, func(r rune) bool { return r > '~' }) || !strings.Contains(screen, "close -> RST") ||
			lipgloss.Width(screen) > 100 {
			t.Errorf("got\n%s", screen)
		}
	}
}

// WHY of the last endings is in the language of the reader.
func TestViewSpeaks(t *testing.T) {
	v := testView(t, 1)
	v.Say = func(english string) string { return "原因：" + english }
	if screen := press(v, keyEnter); !strings.Contains(screen, "原因：SO_LINGER {1,0}") {
		t.Errorf("got\n%s", screen)
	}
}

// The cursor stays in the first line until it is moved; then it stays on its group,
// and the group stays on the screen.
func TestViewCursor(t *testing.T) {
	v := testView(t, 30)
	chosen := func() uint32 {
		press(v, keyEnter)
		defer press(v, keyEsc)
		return v.selected.PID
	}
	if got := chosen(); got != 30 {
		t.Errorf("the first is %d", got)
	}
	press(v, keyUp, keyDown, keyDown)
	if got := chosen(); got != 28 {
		t.Errorf("the third is %d", got)
	}
	for range 50 {
		press(v, keyDown)
	}
	if screen := v.View().Content; chosen() != 1 || !strings.Contains(screen, "il\\x07[1]") {
		t.Errorf("the last is %d on\n%s", chosen(), screen)
	}
	for range len(top.Orders()) { // however it is sorted
		if screen := press(v, keyS); chosen() != 1 || !strings.Contains(screen, "il\\x07[1]") {
			t.Errorf("sorted by %s, %d is chosen on\n%s", v.Sort, chosen(), screen)
		}
	}
	press(v, keyHome)
	if got := chosen(); got != 30 {
		t.Errorf("the first is %d", got)
	}
}

// On the smallest terminal the first group is still shown, with its number.
func TestViewIsSmall(t *testing.T) {
	v := testView(t, 30)
	for height := 3; height < 10; height++ {
		v.Update(tea.WindowSizeMsg{Width: 20, Height: height})
		if screen := v.View().Content; !strings.Contains(screen, "       30  ") {
			t.Errorf("at %d lines, got\n%s", height, screen)
		}
	}
}

// Page up and down, home and end move the cursor by as many groups as are shown.
func TestViewPages(t *testing.T) {
	v := testView(t, 30)
	press(v, keyPageDown)
	for i, tt := range []struct {
		key  tea.Key
		want uint32
	}{
		{keyPageDown, 16}, {keyPageUp, 23}, {keyEnd, 1}, {keyPageDown, 1}, {keyHome, 30}, {keyPageUp, 30},
	} {
		press(v, tt.key)
		if groups := v.groups(); groups[v.cursor(groups)].PID != tt.want {
			t.Errorf("%d: %d is chosen, want %d", i, groups[v.cursor(groups)].PID, tt.want)
		}
	}
}

// Errors only, and a text that names have to contain.
func TestViewFilters(t *testing.T) {
	v := testView(t, 30)
	fine := &events.Ending{Path: "close.fin.active", Actor: &events.Task{PID: 99, Comm: "calm"}}
	if err := v.counts.Write(fine); err != nil {
		t.Fatal(err)
	}
	v.Update(refreshMsg{})
	if screen := press(v, keyEnd); !strings.Contains(screen, "calm[99]") && len(v.groups()) != 31 {
		t.Errorf("got\n%s", screen)
	}
	press(v, keyE)
	if screen := v.View().Content; len(v.groups()) != 30 || !strings.Contains(screen, "errors only") {
		t.Errorf("got\n%s", screen)
	}
	press(v, keyE)
	if screen := press(v, typed("/", "C", "a", "l")...); !strings.Contains(screen, "/Cal_") || len(v.groups()) != 1 {
		t.Errorf("got\n%s", screen)
	}
	if screen := press(v, keyEnter); !strings.Contains(screen, `with "Cal"`) {
		t.Errorf("got\n%s", screen)
	}
	press(v, typed("/")...)
	press(v, tea.Key{Code: tea.KeyBackspace}, tea.Key{Code: 'x', Text: "x"}, keyEnter)
	if screen := v.View().Content; !strings.Contains(screen, "no group matches") {
		t.Errorf("got\n%s", screen)
	}
	if press(v, keyEsc); len(v.groups()) != 31 {
		t.Error("the filter stays")
	}
	press(v, typed("/")...)
	press(v, typed(strings.Split(strings.Repeat("y", 1000), "")...)...)
	if len(v.filter) > maxFilter {
		t.Errorf("a filter of %d bytes", len(v.filter))
	}
}

// A page covers the screen until it is closed, and can be read to its end.
func TestViewExplains(t *testing.T) {
	v := testView(t, 3)
	v.Explain = func(path events.Path, width int) string {
		return fmt.Sprintf("%s at %d\n", path, width) + strings.Repeat("more\n", 30) + "the end\n"
	}
	screen := press(v, typed("?")...)
	if !strings.Contains(screen, "close.rst.linger0 at 100\nmore") || strings.Contains(screen, "records lost") {
		t.Errorf("got\n%s", screen)
	}
	if screen = press(v, keyUp, keyPageDown, keyDown, keyEnd, keyDown); !strings.Contains(screen, "the end") ||
		lipgloss.Height(screen) != v.height {
		t.Errorf("got\n%s", screen)
	}
	if screen = press(v, keyHome, keyEsc); !strings.Contains(screen, "record lost") || v.inside {
		t.Errorf("got\n%s", screen)
	}
	press(v, keyEnter)
	press(v, typed("?")...)
	if screen = press(v, keyEsc); !strings.Contains(screen, "last endings") {
		t.Errorf("got\n%s", screen)
	}
}

// A pause freezes the screen, and counting goes on.
func TestViewPause(t *testing.T) {
	v := testView(t, 1)
	total := func(n int) string { return fmt.Sprintf(" %9d %9d %9d  ", n, n, n) }
	if screen := press(v, keySpace); !strings.Contains(screen, "top: PAUSED, ") || !strings.Contains(screen, total(1)) {
		t.Errorf("got\n%s", screen)
	}
	e := *v.board.Last(top.ByProcess, v.groups()[0].Key, false)[0]
	if err := v.counts.Write(&e); err != nil {
		t.Fatal(err)
	}
	v.Update(refreshMsg{})
	if screen := v.View().Content; !strings.Contains(screen, total(1)) {
		t.Errorf("paused, got\n%s", screen)
	}
	if inside := press(v, keyEnter); strings.Count(inside, "SO_LINGER {1,0}") != 1 {
		t.Errorf("paused, got\n%s", inside)
	}
	if screen := press(v, keyEsc, keySpace); strings.Contains(screen, "PAUSED") || !strings.Contains(screen, total(2)) {
		t.Errorf("after the pause, got\n%s", screen)
	}
}
