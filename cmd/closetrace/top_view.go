package main

import (
	"fmt"
	"strings"
	"time"

	"charm.land/bubbles/v2/help"
	"charm.land/bubbles/v2/key"
	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/top"
)

// topView is the screen of closetrace top: what is shown of the counts, and what
// keys do. It changes in Update only.
type topView struct {
	counts *topCounts
	losses func() probe.Losses
	about  string // what is traced, and how
	color  bool
	keys   topKeys
	help   help.Model

	by     top.Grouping
	order  top.Order
	paused bool
	inside bool // the last endings of the chosen group are shown
	// chosen is the group under the cursor. Until the user moves the cursor it
	// stays in the first line, whichever group comes there.
	chosen        top.Key
	moved         bool
	width, height int

	// What was last looked at: with paused, what stays on the screen.
	board  *top.Board
	lost   probe.Losses
	at     time.Time
	atMono uint64
}

type topKeys struct{ up, down, first, enter, back, group, sort, pause, zero, suspend, quit key.Binding }

func newTopKeys() topKeys {
	bind := func(shown, does string, keys ...string) key.Binding {
		return key.NewBinding(key.WithKeys(keys...), key.WithHelp(shown, does))
	}
	return topKeys{
		up: bind("↑", "up", "up", "k"), down: bind("↑↓", "choose", "down", "j"), first: bind("home", "first", "home", "g"),
		enter: bind("enter", "endings", "enter"), back: bind("esc", "back", "esc", "backspace", "left"),
		group: bind("tab", "group", "tab"), sort: bind("s", "sort", "s"), pause: bind("space", "pause", "space"),
		zero: bind("z", "zero", "z"), suspend: bind("ctrl+z", "suspend", "ctrl+z"), quit: bind("q", "quit", "q", "ctrl+c"),
	}
}

// newHelp is the line of keys. The library's own colours cannot be seen on every
// background.
func newHelp() help.Model {
	h := help.New()
	plain := lipgloss.NewStyle()
	h.Styles = help.Styles{ShortKey: plain.Bold(true), ShortDesc: plain, ShortSeparator: plain, Ellipsis: plain}
	return h
}

// refresh is how often the screen looks at the counts.
const refresh = 500 * time.Millisecond

// refreshed is the message that it is time to look.
type refreshed struct{}

func tick() tea.Cmd { return tea.Tick(refresh, func(time.Time) tea.Msg { return refreshed{} }) }

// Init looks for the first time.
func (v *topView) Init() tea.Cmd {
	v.look()
	return tick()
}

// look takes what is shown from the counts.
func (v *topView) look() {
	v.board, v.atMono = v.counts.look()
	v.lost, v.at = v.losses(), time.Now()
}

// sized gives a terminal that does not know its size, as one on a serial line, the
// usual one.
func sized(_ tea.Model, msg tea.Msg) tea.Msg {
	if size, ok := msg.(tea.WindowSizeMsg); ok && (size.Width <= 0 || size.Height <= 0) {
		return tea.WindowSizeMsg{Width: 80, Height: 24}
	}
	return msg
}

// Update is what a message does.
func (v *topView) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		v.width, v.height = msg.Width, msg.Height
		v.help.SetWidth(v.width)
	case refreshed:
		if !v.paused {
			v.look()
		}
		return v, tick()
	case tea.KeyPressMsg:
		return v, v.press(msg)
	}
	return v, nil
}

// press is what a key does.
func (v *topView) press(k tea.KeyPressMsg) tea.Cmd {
	switch keys := &v.keys; {
	case key.Matches(k, keys.quit):
		return tea.Quit
	case key.Matches(k, keys.suspend):
		return tea.Suspend
	case key.Matches(k, keys.up):
		v.move(-1)
	case key.Matches(k, keys.down):
		v.move(1)
	case key.Matches(k, keys.first):
		v.moved = false
	case key.Matches(k, keys.enter):
		v.enter()
	case key.Matches(k, keys.back):
		v.inside = false
	case key.Matches(k, keys.group):
		v.by, v.inside, v.moved = after(v.by, top.Groupings()), false, false
	case key.Matches(k, keys.sort):
		v.order = after(v.order, top.Orders())
	case key.Matches(k, keys.pause):
		if v.paused = !v.paused; !v.paused {
			v.look()
		}
	case key.Matches(k, keys.zero):
		v.counts.zero()
		v.inside, v.moved, v.paused = false, false, false
		v.look()
	}
	return nil
}

// after is the next of a few, and after the last one the first.
func after[T comparable](now T, all []T) T {
	for i, one := range all {
		if one == now {
			return all[(i+1)%len(all)]
		}
	}
	return all[0]
}

func (v *topView) groups() []top.Group { return v.board.Groups(v.by, v.order, v.atMono) }

// cursor is the line of the chosen group.
func (v *topView) cursor(groups []top.Group) int {
	if v.moved || v.inside {
		for i, g := range groups {
			if g.Key == v.chosen {
				return i
			}
		}
	}
	return 0
}

func (v *topView) move(by int) {
	groups := v.groups()
	if len(groups) == 0 {
		return
	}
	to := min(max(v.cursor(groups)+by, 0), len(groups)-1)
	v.chosen, v.moved = groups[to].Key, true
}

// enter goes to the endings of the chosen group.
func (v *topView) enter() {
	if groups := v.groups(); len(groups) > 0 {
		v.chosen, v.inside = groups[v.cursor(groups)].Key, true
	}
}

// View is the screen.
func (v *topView) View() tea.View {
	lines := []string{v.title(), v.totals(), v.heading()}
	keys := []key.Binding{v.keys.down, v.keys.enter, v.keys.group, v.keys.sort, v.keys.pause, v.keys.zero, v.keys.quit}
	room := max(v.height-len(lines)-1, 0) // the keys have the last line
	if v.inside {
		keys = []key.Binding{v.keys.back, v.keys.down, v.keys.group, v.keys.pause, v.keys.zero, v.keys.quit}
		lines = append(lines, v.endings(room)...)
	} else {
		lines = append(lines, v.table(room)...)
	}
	lines = lines[:min(len(lines), max(v.height-1, 2))]
	for len(lines) < v.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines, v.help.ShortHelpView(keys))
	fit := lipgloss.NewStyle().MaxWidth(v.width)
	for i := range lines {
		lines[i] = fit.Render(lines[i])
	}
	screen := tea.NewView(strings.Join(lines, "\n"))
	screen.AltScreen = true
	return screen
}

// title says what this is, of when, and since when it counts.
func (v *topView) title() string {
	counting := time.Duration(v.atMono - v.board.Began()).Truncate(time.Second)
	about := v.about
	if v.paused {
		about = "PAUSED, counting goes on" // where also a narrow terminal shows it
	}
	title := fmt.Sprintf("closetrace top: %s  %s  counting for %s", about, v.at.Format("15:04:05"), counting)
	return lipgloss.NewStyle().Bold(true).Render(title)
}

// totals begins with what the rest may lack.
func (v *topView) totals() string {
	lost := some(v.lost.LostRecords, "record") + " lost, " + some(v.lost.MissedProbes, "probe") + " missed"
	if v.lost.LostRecords+v.lost.MissedProbes > 0 {
		lost = v.paint(lost, filter.Severe)
	}
	if v.lost.Suppressed > 0 {
		lost += ", " + some(v.lost.Suppressed, "RST") + " in reply not told"
	}
	n := v.board.Total(v.atMono)
	return fmt.Sprintf("%s  %s, %.1f/s, %s, %s", lost, some(n.Endings, "ending"), n.PerSecond, some(n.Errors, "error"), some(n.RSTs, "RST"))
}

func some(n uint64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func (v *topView) paint(s string, severity filter.Severity) string {
	if !v.color {
		return s
	}
	return sink.Paint(s, severity)
}

// heading says what stands below.
func (v *topView) heading() string {
	if v.inside {
		return "last endings, newest first, of " + sink.Tame(v.chosen.String())
	}
	return fmt.Sprintf("by %s, sorted by %s", v.by, v.order)
}

// table is the groups: as many as there is room for, the chosen one among them.
func (v *topView) table(room int) []string {
	lines := []string{fmt.Sprintf("%9s %9s %9s %9s  %s", "/S", "TOTAL", "ERRORS", "RST", strings.ToUpper(string(v.by)))}
	groups := v.groups()
	if len(groups) == 0 {
		return append(lines, "nothing has ended yet")
	}
	cursor, rows := v.cursor(groups), max(room-len(lines), 1)
	first := max(cursor-rows+1, 0)
	for i, g := range groups[first:min(first+rows, len(groups))] {
		name := sink.Tame(g.Key.String())
		if first+i == cursor {
			name = lipgloss.NewStyle().Reverse(true).Render(name)
		} else {
			name = v.paint(name, g.Worst)
		}
		line := fmt.Sprintf("%9.1f %9d %9d %9d  %s", g.PerSecond, g.Endings, g.Errors, g.RSTs, name)
		if g.Title != "" {
			line += "  " + sink.Tame(g.Title)
		}
		lines = append(lines, line)
	}
	return lines
}

// endings are the last ones of the chosen group, as many as there is room for.
func (v *topView) endings(room int) (lines []string) {
	var text strings.Builder
	table, err := sink.NewTable(&text, sink.TableOptions{Width: v.width, Color: v.color})
	if err != nil {
		return []string{err.Error()}
	}
	take := func() []string {
		_ = table.Flush() // a Builder takes all
		defer text.Reset()
		return strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	}
	lines = take()
	for _, e := range v.board.Last(v.by, v.chosen) {
		if err := table.Write(e); err != nil {
			return append(lines, err.Error())
		}
		row := take()
		if len(lines)+len(row) > room {
			break
		}
		lines = append(lines, row...)
	}
	return lines
}
