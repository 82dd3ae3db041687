package main

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/top"
)

// testView is a screen without a terminal: of processes 1 to n, of which each has
// ended as many connections as its id.
func testView(t *testing.T, n int) *topView {
	t.Helper()
	counts := newTopCounts(func() uint64 { return 5e9 })
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
	v := &topView{
		counts: counts, losses: func() probe.Losses { return probe.Losses{LostRecords: 1, MissedProbes: 23} },
		about: "on 6.1.0 by fentry", keys: newTopKeys(), help: newHelp(), by: top.ByProcess, order: top.ByTotal,
	}
	v.Init()
	v.Update(tea.WindowSizeMsg{Width: 100, Height: 12})
	return v
}

func press(v *topView, keys ...tea.Key) string {
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
	keyS     = tea.Key{Code: 's', Text: "s"}
)

// Whatever the terminal's size, the screen fits it, and says what was lost.
func TestTopViewFits(t *testing.T) {
	v := testView(t, 30)
	for width := 20; width < 150; width += 13 {
		for height := 3; height < 40; height += 4 {
			v.Update(tea.WindowSizeMsg{Width: width, Height: height})
			for _, key := range []tea.Key{keyEnter, keyEsc} {
				screen := press(v, key)
				if w, h := lipgloss.Width(screen), lipgloss.Height(screen); w > width || h > height {
					t.Errorf("%d by %d for %d by %d", w, h, width, height)
				}
				if want := "1 record lost, 23 probes missed"; width > len(want) && !strings.Contains(screen, want) {
					t.Errorf("%d by %d: %s is not said", width, height, want)
				}
				if strings.Contains(screen, "\x1b]") || strings.Contains(screen, "\a") {
					t.Error("a comm commands the terminal")
				}
			}
		}
	}
}

// The cursor stays in the first line until it is moved; then it stays on its group,
// and the group stays on the screen.
func TestTopViewCursor(t *testing.T) {
	v := testView(t, 30)
	chosen := func() uint32 {
		press(v, keyEnter)
		defer press(v, keyEsc)
		return v.chosen.PID
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
			t.Errorf("sorted by %s, %d is chosen on\n%s", v.order, chosen(), screen)
		}
	}
	press(v, keyHome)
	if got := chosen(); got != 30 {
		t.Errorf("the first is %d", got)
	}
}

// A pause holds all that is on the screen, and counting goes on.
func TestTopViewPause(t *testing.T) {
	v := testView(t, 1)
	total := func(n int) string { return fmt.Sprintf(" %9d %9d %9d  ", n, n, n) }
	if screen := press(v, keySpace); !strings.Contains(screen, "top: PAUSED, ") || !strings.Contains(screen, total(1)) {
		t.Errorf("got\n%s", screen)
	}
	e := *v.board.Last(top.ByProcess, v.groups()[0].Key)[0]
	if err := v.counts.Write(&e); err != nil {
		t.Fatal(err)
	}
	v.Update(refreshed{})
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
