package explain

import (
	"fmt"
	"strings"
)

// The width of lines: what a terminal gives, within what can be read.
const (
	usualWidth    = 80
	greatestWidth = 100
	leastWidth    = 40
)

// Layout is how a page is written.
type Layout struct {
	Language Language
	// Width of the terminal in cells; 0 if it is none.
	Width int
	// Variants are scenarios that provoke the path in other ways.
	Variants []string
}

func (o Layout) width() int {
	if o.Width == 0 {
		return usualWidth
	}
	return max(leastWidth, min(o.Width, greatestWidth))
}

// printer writes a page.
type printer struct {
	strings.Builder
	Layout
	words map[string]string
}

// Text is the page as people read it.
func (p *Page) Text(o Layout) string {
	w := &printer{Layout: o, words: words[o.Language]}
	w.WriteString(wrap(p.Name+": "+p.Title(o.Language), "", "    ", o.width()))
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
	section("harmless", w.words[p.Harmless]+text("harmless"))
	section("avoid", text("avoid"))
	w.lab(p)
	if len(p.Counters) > 0 {
		section("counters", strings.Join(p.Counters, w.words["separator"]))
	}
	section("reason", w.reason(p))
	rfcs := strings.Join(p.RFCs, w.words["separator"])
	if rfcs == "none" {
		rfcs = w.words["none"]
	}
	section("rfc", rfcs)
}

func (w *printer) head(name string) { w.WriteString("\n" + w.words[name] + "\n") }

func (w *printer) verbatim(text string) {
	for line := range strings.Lines(text) {
		w.WriteString("    " + strings.TrimRight(line, "\n") + "\n")
	}
}

// body writes paragraphs. A line that begins with "- " is an item of a list,
// one that begins with "# " a heading, one with four spaces stays as it is. So
// do lines between "```", which are commands, ready to be copied.
func (w *printer) body(text, indent string) {
	paragraph := ""
	flush := func() {
		item, isItem := strings.CutPrefix(paragraph, "- ")
		switch {
		case isItem:
			w.WriteString(wrap(item, indent+"- ", indent+"  ", w.width()))
		case paragraph != "":
			w.WriteString(wrap(paragraph, indent, indent, w.width()))
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
			w.WriteString(heading + "\n")
		case strings.HasPrefix(line, "- "):
			flush()
			paragraph = line
		default:
			paragraph = join(paragraph, line)
		}
	}
	flush()
}

// join puts the lines of a paragraph together: in Chinese without a space.
func join(a, b string) string {
	before, after := []rune(a), []rune(b)
	if a == "" || b == "" || wide(before[len(before)-1]) && wide(after[0]) {
		return a + b
	}
	return a + " " + b
}

func (w *printer) lab(p *Page) {
	w.head("lab")
	if p.Lab == "" {
		w.body(p.NoLab(w.Language), "  ")
		return
	}
	w.verbatim("sudo closetrace lab " + p.Lab)
	if len(w.Variants) > 0 {
		w.WriteString(wrap(w.words["variants"]+strings.Join(w.Variants, ", "), "  ", "  ", w.width()))
	}
}

// reason says what the kernel itself gives as its reason, and since when.
func (w *printer) reason(p *Page) string {
	more := p.text(w.Language, "reason")
	if len(p.Reasons) == 0 {
		return join(w.words["noreason"], more)
	}
	var names []string
	catchAll := ""
	for _, r := range p.Reasons {
		names = append(names, fmt.Sprintf(w.words["since"], r.Name, r.Since))
		if r.Name == "TCP_STATE" {
			catchAll = w.words["catch-all"]
		}
	}
	text := strings.Join(names, w.words["or"]) + w.words[p.Reasons[0].Since] + catchAll
	return join(text, more)
}

// Index lists paths by family, and topics.
func Index(paths, topics []*Page, o Layout) string {
	w := &printer{Layout: o, words: words[o.Language]}
	names := 0
	for _, p := range append(append([]*Page{}, paths...), topics...) {
		names = max(names, cells(p.Name))
	}
	list := func(head string, pages []*Page) {
		if w.Len() > 0 {
			w.WriteString("\n")
		}
		w.WriteString(head + "\n")
		for _, p := range pages {
			name := "  " + p.Name + strings.Repeat(" ", names-cells(p.Name)) + "  "
			w.WriteString(wrap(p.Title(o.Language), name, strings.Repeat(" ", names+4), o.width()))
		}
	}
	for _, family := range Families {
		var pages []*Page
		for _, p := range paths {
			if p.family() == family {
				pages = append(pages, p)
			}
		}
		list(w.words["family."+family], pages)
	}
	list(w.words["topics"], topics)
	return w.String()
}
