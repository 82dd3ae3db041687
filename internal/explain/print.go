package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink/table"
)

// The width of lines in cells: that of the terminal within these limits, the greatest if there is none.
const (
	greatestWidth = 80
	leastWidth    = 40
)

// Layout configures how a page is printed.
type Layout struct {
	Language Language
	// Width is the width of the terminal in cells, 0 if there is none.
	Width int
	// Bold prints headings in bold.
	Bold bool
	// Scenarios names all scenarios. Those that provoke a path in other ways have its name, "_" and a word.
	Scenarios []string
}

// width returns the width of lines in cells.
func (o Layout) width() int {
	if o.Width == 0 {
		return greatestWidth
	}
	return max(leastWidth, min(o.Width, greatestWidth))
}

// bold returns lines in bold.
func (o Layout) bold(text string) string {
	if !o.Bold || strings.TrimSpace(text) == "" {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("\x1b[1m" + strings.TrimSuffix(line, "\n") + "\x1b[22m")
		if strings.HasSuffix(line, "\n") {
			b.WriteString("\n")
		}
	}
	return b.String()
}

// printer builds the text of a page.
type printer struct {
	strings.Builder
	Layout
	words map[string]string
}

// Text returns the page as text.
func (p *Page) Text(o Layout) string {
	w := &printer{Layout: o, words: words[o.Language]}
	w.title(p.Name, p.Title(o.Language))
	if p.Topic() {
		w.WriteString("\n")
		w.body(p.text(o.Language, "text"), "")
	} else {
		w.path(p)
	}
	if len(p.See) > 0 {
		w.head("see")
		for _, topic := range p.See {
			w.verbatim("closetrace explain " + topic)
		}
	}
	return w.String()
}

// path writes the sections of a path.
func (w *printer) path(p *Page) {
	text := func(section string) string { return p.text(w.Language, section) }
	section := func(name, text string) {
		w.head(name)
		w.body(text, "  ")
	}
	section("what", text("what"))
	section("chain", text("condition"))
	w.WriteString("\n")
	w.verbatim(p.sections["chain"])
	section("wire", text("sends"))
	w.WriteString("\n" + p.diagram(w.Language))
	section("here", text("here"))
	section("peer", text("peer"))
	section("harmless", w.words[string(p.Info.Harmless)]+text("harmless"))
	section("avoid", text("avoid"))
	w.lab(p)
	if len(p.Info.Counters) > 0 {
		section("counters", w.counters(p.Info.Counters))
	}
	section("reason", w.reason(p))
	rfcs := strings.Join(p.RFCs, w.words["separator"])
	if rfcs == "none" {
		rfcs = w.words["none"]
	}
	section("rfc", rfcs)
}

// title writes the first line of a text.
func (w *printer) title(name, about string) {
	w.WriteString(w.bold(table.Fill(name+": "+about, "", "    ", w.width())))
}

// head writes the heading of a section.
func (w *printer) head(name string) { w.heading(w.words[name]) }

func (w *printer) heading(text string) { w.WriteString("\n" + w.bold(text) + "\n") }

// verbatim writes lines that are not wrapped.
func (w *printer) verbatim(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		w.WriteString("    " + strings.TrimRight(line, "\n") + "\n")
	}
}

// body writes paragraphs. A line that begins with "- " is an item of a list, and one that begins with "# " is a
// heading. A line that begins with four blanks is not wrapped. Lines between "```" are commands to copy, and are not
// changed.
func (w *printer) body(text, indent string) {
	paragraph := ""
	flush := func() {
		item, isItem := strings.CutPrefix(paragraph, "- ")
		switch {
		case isItem:
			w.WriteString(table.Fill(item, indent+"- ", indent+"  ", w.width()))
		case paragraph != "":
			w.WriteString(table.Fill(paragraph, indent, indent, w.width()))
		}
		paragraph = ""
	}
	commands := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		heading, isHeading := strings.CutPrefix(line, "# ")
		switch {
		case line == "```":
			flush()
			commands = !commands
		case commands:
			w.WriteString(line + "\n")
		case isHeading || line == "" || strings.HasPrefix(line, "    "):
			flush()
			if isHeading {
				heading = w.bold(heading)
			}
			w.WriteString(heading + "\n")
		case strings.HasPrefix(line, "- "):
			flush()
			paragraph = line
		default:
			paragraph = table.Join(paragraph, line)
		}
	}
	flush()
}

// lab writes the command that provokes the path, or the reason why there is none.
func (w *printer) lab(p *Page) {
	w.head("lab")
	if p.Lab == "" {
		w.body(p.NoLab(w.Language), "  ")
		return
	}
	w.verbatim("sudo closetrace lab " + p.Lab)
	variants := slices.DeleteFunc(slices.Clone(w.Scenarios), func(s string) bool {
		return !strings.HasPrefix(s, p.Name+"_")
	})
	if len(variants) > 0 {
		w.WriteString(table.Fill(w.words["variants"]+strings.Join(variants, ", "), "  ", "  ", w.width()))
	}
}

// reason returns the reasons that the kernel itself gives for its RST, and since which version.
func (w *printer) reason(p *Page) string {
	more := p.text(w.Language, "reason")
	if len(p.Info.Reasons) == 0 {
		return table.Join(w.words["noreason"], more)
	}
	var names []string
	catchAll := ""
	for _, r := range p.Info.Reasons {
		names = append(names, fmt.Sprintf(w.words["since"], r.Name, r.Since))
		if r.Name == "TCP_STATE" {
			catchAll = w.words["catch-all"]
		}
	}
	text := strings.Join(names, w.words["or"]) + w.words[p.Info.Reasons[0].Since] + catchAll
	return table.Join(text, more)
}

// counters returns the kernel counters that a path increments, each with its condition.
func (w *printer) counters(moves []events.Move) string {
	var texts []string
	for _, m := range moves {
		texts = append(texts, m.Counter.String()+condition(m, w.Language))
	}
	return strings.Join(texts, w.words["separator"])
}

// Index returns a list of all paths by family, and of all topics, with their titles.
func Index(paths, topics []*Page, o Layout) string {
	names := 0
	for _, p := range slices.Concat(paths, topics) {
		names = max(names, table.Width(p.Name))
	}
	var lists []string
	list := func(head string, pages []*Page) {
		lists = append(lists, o.bold(words[o.Language][head])+"\n"+indexOf(titles(pages, o.Language), names, o))
	}
	for _, family := range events.Families() {
		list("family."+family, slices.DeleteFunc(slices.Clone(paths), func(p *Page) bool { return p.family() != family }))
	}
	list("topics", topics)
	return strings.Join(lists, "\n")
}

// item is a row of a list.
type item struct{ name, title string }

func titles(pages []*Page, l Language) []item {
	var items []item
	for _, p := range pages {
		items = append(items, item{p.Name, p.Title(l)})
	}
	return items
}

// indexOf returns a table of names and titles, with a column for names that is at least names cells wide.
func indexOf(items []item, names int, o Layout) string {
	for _, i := range items {
		names = max(names, table.Width(i.name))
	}
	t := &table.Table{Columns: []table.Column{{Min: names}, {}}, Indent: true}
	width := o.width() - names - 2*len("  ") // the indent and the gap
	for _, i := range items {
		name := i.name
		// The table wraps between words, which Chinese does not separate.
		for line := range strings.Lines(table.Fill(i.title, "", "", width)) {
			t.Rows = append(t.Rows, []string{name, strings.TrimSuffix(line, "\n")})
			name = ""
		}
	}
	return t.String()
}
