package screen

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"charm.land/bubbles/v2/help"
	"charm.land/bubbles/v2/key"
	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/top"
)

// view is the screen: which of the counts it shows, and what keys do. Only Update changes it.
type view struct {
	Options
	counts *Counts
	keys   keys
	help   help.Model

	paused bool
	inside bool // shows the last endings of the selected group
	errors bool // shows only what ended abnormally
	filter string
	typing bool // the filter
	page   page
	// selected is the group under the cursor. Until the user moves the cursor it stays in the first line, whichever
	// group that is.
	selected      top.Key
	moved         bool
	width, height int

	// The last snapshot: while paused, what stays on the screen.
	board  *top.Board
	lost   Losses
	at     time.Time
	atMono uint64
}

func newView(counts *Counts, o Options) *view {
	return &view{Options: o, counts: counts, keys: newKeys(), help: newHelp()}
}

type keys struct {
	up, down, pageUp, pageDown, first, last, enter, back, group, sort, errors, filter, explain, pause, zero key.Binding

	suspend, quit key.Binding
}

func newKeys() keys {
	bind := func(shown, does string, keys ...string) key.Binding {
		return key.NewBinding(key.WithKeys(keys...), key.WithHelp(shown, does))
	}
	return keys{
		up: bind("↑", "up", "up", "k"), down: bind("↑↓", "choose", "down", "j"),
		pageUp: bind("pgup", "page up", "pgup", "ctrl+b"), pageDown: bind("pgdn", "page down", "pgdown", "ctrl+f"),
		first: bind("home", "first", "home", "g"), last: bind("end", "last", "end", "G"),
		enter: bind("enter", "endings", "enter"), back: bind("esc", "back", "esc", "backspace", "left"),
		group: bind("tab", "group", "tab"), sort: bind("s", "sort", "s"), errors: bind("e", "errors", "e"),
		filter: bind("/", "filter", "/"), explain: bind("?", "explain", "?"), pause: bind("space", "pause", "space"),
		zero: bind("z", "zero", "z"), suspend: bind("ctrl+z", "suspend", "ctrl+z"), quit: bind("q", "quit", "q", "ctrl+c"),
	}
}

// shown returns the keys of the last line. What does not fit is left out at the end.
func (v *view) shown() []key.Binding {
	k := &v.keys
	switch {
	case v.page.isOpen():
		return []key.Binding{k.quit, k.back, k.down, k.pageDown}
	case v.inside:
		return []key.Binding{k.quit, k.back, k.down, k.group, k.errors, k.explain, k.pause, k.zero}
	}
	return []key.Binding{
		k.quit, k.down, k.enter, k.group, k.sort, k.errors, k.filter, k.explain, k.pause, k.zero,
	}
}

// newHelp returns the line of keys. The library's own colours are invisible on some backgrounds.
func newHelp() help.Model {
	h := help.New()
	plain := lipgloss.NewStyle()
	h.Styles = help.Styles{ShortKey: plain.Bold(true), ShortDesc: plain, ShortSeparator: plain, Ellipsis: plain}
	return h
}

// refreshInterval is how often the screen takes a snapshot of the counts.
const refreshInterval = 500 * time.Millisecond

// refreshMsg says that it is time for a snapshot.
type refreshMsg struct{}

func tick() tea.Cmd {
	return tea.Tick(refreshInterval, func(time.Time) tea.Msg { return refreshMsg{} })
}

// Init takes the first snapshot.
func (v *view) Init() tea.Cmd {
	v.refresh()
	return tick()
}

// refresh takes a snapshot of the counts.
func (v *view) refresh() {
	v.board, v.atMono = v.counts.snapshot()
	v.lost, v.at = v.Losses(), time.Now()
}

// Update handles a message.
func (v *view) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		v.width, v.height = msg.Width, msg.Height
		v.help.SetWidth(v.width)
	case refreshMsg:
		if !v.paused {
			v.refresh()
		}
		return v, tick()
	case tea.KeyPressMsg:
		return v, v.press(msg)
	}
	return v, nil
}

// press handles a key.
func (v *view) press(k tea.KeyPressMsg) tea.Cmd {
	switch keys := &v.keys; {
	case v.typing && k.String() != "ctrl+c":
		v.typeFilter(k)
	case key.Matches(k, keys.quit):
		return tea.Quit
	case key.Matches(k, keys.suspend):
		return tea.Suspend
	case v.page.isOpen():
		v.page.press(k, keys, v.height-1)
	case v.scroll(k):
	case key.Matches(k, keys.enter):
		v.enter()
	case key.Matches(k, keys.back):
		v.leave()
	case key.Matches(k, keys.explain):
		v.explain()
	default:
		v.change(k)
	}
	return nil
}

// scroll moves the cursor, and reports whether the key does that.
func (v *view) scroll(k tea.KeyPressMsg) bool {
	const end = 1 << 30
	switch keys := &v.keys; {
	case key.Matches(k, keys.up):
		v.move(-1)
	case key.Matches(k, keys.down):
		v.move(1)
	case key.Matches(k, keys.pageUp):
		v.move(-v.rows())
	case key.Matches(k, keys.pageDown):
		v.move(v.rows())
	case key.Matches(k, keys.first):
		v.moved = false
	case key.Matches(k, keys.last):
		v.move(end)
	default:
		return false
	}
	return true
}

// change changes what is shown.
func (v *view) change(k tea.KeyPressMsg) {
	switch keys := &v.keys; {
	case key.Matches(k, keys.group):
		v.By, v.inside, v.moved = next(v.By, top.Groupings()), false, false
	case key.Matches(k, keys.sort):
		v.Sort = next(v.Sort, top.Orders())
	case key.Matches(k, keys.errors):
		v.errors = !v.errors
	case key.Matches(k, keys.filter) && !v.inside:
		v.typing = true
	case key.Matches(k, keys.pause):
		if v.paused = !v.paused; !v.paused {
			v.refresh()
		}
	case key.Matches(k, keys.zero):
		v.counts.reset()
		v.inside, v.moved, v.paused = false, false, false
		v.refresh()
	}
}

// leave goes back from the endings of a group to all groups, and from there to a table without a filter.
func (v *view) leave() {
	if !v.inside {
		v.filter = ""
	}
	v.inside = false
}

// maxFilter is the greatest length of a filter in bytes.
const maxFilter = 64

// typeFilter handles a key while the filter is typed.
func (v *view) typeFilter(k tea.KeyPressMsg) {
	switch k.String() {
	case "enter":
		v.typing = false
	case "esc":
		v.typing, v.filter = false, ""
	case "backspace":
		if runes := []rune(v.filter); len(runes) > 0 {
			v.filter = string(runes[:len(runes)-1])
		}
	default:
		if len(v.filter)+len(k.Text) <= maxFilter {
			v.filter += k.Text
		}
	}
}

// next returns the value after now, and after the last one the first.
func next[T comparable](now T, all []T) T {
	for i, one := range all {
		if one == now {
			return all[(i+1)%len(all)]
		}
	}
	return all[0]
}

// groups returns the groups that are shown.
func (v *view) groups() []top.Group {
	groups := v.board.Groups(v.By, v.Sort, v.atMono)
	text := strings.ToLower(v.filter)
	return slices.DeleteFunc(groups, func(g top.Group) bool {
		return v.errors && g.Errors == 0 || !strings.Contains(strings.ToLower(g.Key.String()+"  "+g.Title), text)
	})
}

// cursor returns the line of the selected group.
func (v *view) cursor(groups []top.Group) int {
	if v.moved || v.inside {
		for i, g := range groups {
			if g.Key == v.selected {
				return i
			}
		}
	}
	return 0
}

func (v *view) move(by int) {
	groups := v.groups()
	if len(groups) == 0 {
		return
	}
	to := min(max(v.cursor(groups)+by, 0), len(groups)-1)
	v.selected, v.moved = groups[to].Key, true
}

// enter shows the endings of the selected group.
func (v *view) enter() {
	if groups := v.groups(); len(groups) > 0 {
		v.selected, v.inside = groups[v.cursor(groups)].Key, true
	}
}

// explain opens the page of a path: of the selected group or, if it has several, of its last ending.
func (v *view) explain() {
	groups := v.groups()
	if len(groups) == 0 || v.Explain == nil {
		return
	}
	selected := groups[v.cursor(groups)].Key
	if v.inside {
		selected = v.selected
	}
	path := selected.Path
	if last := v.last(selected); path == "" && len(last) > 0 {
		path = last[0].Path
	}
	v.page.open(v.Explain(path, v.width))
}

// last returns the last endings of a group that are shown.
func (v *view) last(k top.Key) []*events.Ending { return v.board.Last(v.By, k, v.errors) }

// A screen of fewer lines has no heading, and of still fewer no title: the losses and a row of the table are shown as
// long as possible.
const (
	leastForHeading = 7
	leastForTitle   = 6
	leastForColumns = 4
)

// above returns the lines above the table.
func (v *view) above() (lines []string) {
	if v.height >= leastForTitle {
		lines = append(lines, v.title())
	}
	lines = append(lines, v.totals())
	if v.height >= leastForHeading {
		lines = append(lines, v.heading())
	}
	return lines
}

// rows returns the number of groups that fit on the screen.
func (v *view) rows() int { return max(v.height-len(v.above())-2, 1) } // without the columns and the keys

// View returns the screen.
func (v *view) View() tea.View {
	lines := v.page.lines(v.height - 1)
	if !v.page.isOpen() {
		lines = v.above()
		height := max(v.height-len(lines)-1, 0) // the last line has the keys
		if v.inside {
			lines = append(lines, v.endings(height)...)
		} else {
			lines = append(lines, v.table(height)...)
		}
	}
	lines = lines[:min(len(lines), max(v.height-1, 2))]
	for len(lines) < v.height-1 {
		lines = append(lines, "")
	}
	if v.typing {
		lines = append(lines, "/"+sink.Tame(v.filter)+"_  enter: keep, esc: clear")
	} else {
		lines = append(lines, v.help.ShortHelpView(v.shown()))
	}
	fit := lipgloss.NewStyle().MaxWidth(v.width)
	for i := range lines {
		if v.ASCII {
			lines[i] = sink.ASCII(lines[i])
		}
		lines[i] = fit.Render(lines[i])
	}
	screen := tea.NewView(strings.Join(lines, "\n"))
	screen.AltScreen = true
	return screen
}

// title says what is traced, the time of the snapshot, and for how long it counts.
func (v *view) title() string {
	counting := time.Duration(v.atMono - v.board.Began()).Truncate(time.Second)
	about := fmt.Sprintf("on %s by %s", sink.Tame(v.Kernel), sink.Tame(v.Attach))
	if v.paused {
		about = "PAUSED, counting goes on" // at the left, for a narrow terminal
	}
	title := fmt.Sprintf("closetrace top: %s  %s  counting for %s", about, v.at.Format("15:04:05"), counting)
	return lipgloss.NewStyle().Bold(true).Render(title)
}

// totals begins with the losses: the counts may miss as much. What does not fit is left out.
func (v *view) totals() string {
	lost := plural(v.lost.LostRecords, "record") + " lost, " + plural(v.lost.MissedProbes, "probe") + " missed"
	if v.lost.LostRecords+v.lost.MissedProbes > 0 {
		lost = v.paint(lost, events.Severe)
	}
	if v.lost.Suppressed > 0 {
		lost += ", " + plural(v.lost.Suppressed, "RST") + " in reply not listed"
	}
	n := v.board.Total(v.atMono)
	line := lost + "  " + plural(n.Endings, "ending")
	for _, part := range []string{
		fmt.Sprintf("%.1f/s", n.PerSecond), plural(n.Errors, "error"),
		plural(n.RSTSent, "RST") + " sent", events.Grouped(n.RSTReceived) + " received",
	} {
		if lipgloss.Width(line+", "+part) > v.width {
			break // no part is cut
		}
		line += ", " + part
	}
	return line
}

// plural returns a number and a noun whose plural ends in s.
func plural(n uint64, what string) string { return events.Quantity(n, what, what+"s") }

func (v *view) paint(s string, severity events.Severity) string {
	if !v.Color {
		return s
	}
	return sink.Paint(s, severity)
}

// heading says what is below it.
func (v *view) heading() string {
	text := fmt.Sprintf("by %s, sorted by %s", v.By, v.Sort)
	if v.inside {
		text = "last endings, newest first, of " + sink.Tame(v.selected.String())
	}
	if v.errors {
		text += ", errors only"
	}
	if v.filter != "" && !v.inside {
		text += ", with " + strconv.Quote(sink.Tame(v.filter))
	}
	return text
}

// columns are the numbers of a group. Those with the highest rank are left out first on a narrow terminal.
var columns = []struct {
	head        string
	width, rank int
	value       func(*top.Group) string
}{
	{"/S", 9, 1, func(g *top.Group) string { return fmt.Sprintf("%.1f", g.PerSecond) }},
	{"TOTAL", 9, 0, func(g *top.Group) string { return strconv.FormatUint(g.Endings, 10) }},
	{"ERRORS", 9, 2, func(g *top.Group) string { return strconv.FormatUint(g.Errors, 10) }},
	{"RST SENT", 9, 3, func(g *top.Group) string { return strconv.FormatUint(g.RSTSent, 10) }},
	{"RST RECEIVED", 12, 4, func(g *top.Group) string { return strconv.FormatUint(g.RSTReceived, 10) }},
}

// leastName is what the name of a group needs beside its numbers.
const leastName = 20

// fitting returns how many columns fit on the screen, at least one.
func (v *view) fitting() int { return min(max((v.width-leastName)/10, 1), len(columns)) }

// numbers returns the columns of a group, or their heads.
func (v *view) numbers(g *top.Group) string {
	var b strings.Builder
	for _, c := range columns {
		if c.rank >= v.fitting() {
			continue
		}
		text := c.head
		if g != nil {
			text = c.value(g)
		}
		fmt.Fprintf(&b, "%*s ", c.width, text)
	}
	return b.String() + " "
}

// table returns as many groups as fit on the screen, the selected one among them.
func (v *view) table(height int) (lines []string) {
	if v.height >= leastForColumns {
		lines = append(lines, v.numbers(nil)+strings.ToUpper(string(v.By)))
	}
	groups := v.groups()
	switch {
	case len(groups) == 0 && v.board.Total(v.atMono).Endings > 0:
		return append(lines, "no group matches")
	case len(groups) == 0:
		return append(lines, "nothing has ended yet")
	}
	cursor, rows := v.cursor(groups), max(height-len(lines), 1)
	first := max(cursor-rows+1, 0)
	for i, g := range groups[first:min(first+rows, len(groups))] {
		name := sink.Tame(g.Key.String())
		if first+i == cursor {
			name = lipgloss.NewStyle().Reverse(true).Render(name)
		} else {
			name = v.paint(name, g.Worst)
		}
		line := v.numbers(&g) + name
		if g.Title != "" {
			line += "  " + sink.Tame(g.Title)
		}
		lines = append(lines, line)
	}
	return lines
}

// endings returns as many of the last endings of the selected group as fit on the screen.
func (v *view) endings(height int) (lines []string) {
	var text strings.Builder
	table := sink.NewTable(&text, sink.TableOptions{Width: v.width, Color: v.Color, ASCII: v.ASCII, Say: v.Say})
	take := func() []string {
		_ = table.Flush() // a Builder never fails
		defer text.Reset()
		return strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	}
	lines = take()
	for i, e := range v.last(v.selected) {
		if err := table.Write(e); err != nil {
			return append(lines, err.Error())
		}
		row := take()
		if i > 0 && len(lines)+len(row) > height {
			break
		}
		lines = append(lines, row...)
	}
	return lines
}
