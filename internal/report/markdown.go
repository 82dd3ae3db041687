package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/closetrace/closetrace/internal/ladder"
)

// Limits of a report as Markdown, which is read in an issue.
const (
	maxRows  = 30
	textWide = 80 // cells of a ladder
)

// Markdown writes the report for an issue tracker. What others chose stands in code, where it has no meaning.
func (c *Collector) Markdown(w io.Writer, o Options) error {
	v, err := c.view(o)
	if err != nil {
		return err
	}
	m := &markdown{view: v}
	m.line("# %s", plain(v.Title))
	if v.Period != "" {
		m.line("%s", v.Period)
	}
	var totals []string
	for _, f := range v.Figures {
		totals = append(totals, fmt.Sprintf("**%s** %s", f.Count, f.Name))
	}
	m.line("%s", strings.Join(totals, " · "))
	m.groups()
	m.chart()
	if len(v.Verdicts) > 0 {
		m.line("## %s", v.word("verdicts"))
	}
	for i := range v.Verdicts {
		m.verdict(&v.Verdicts[i])
	}
	if len(v.Ordinary) > 0 {
		m.line("## %s", v.word("ordinary"))
		m.figures(v.Ordinary)
	}
	m.environment()
	m.line("%s", v.phrase("made", plain(v.Version)))
	_, err = io.WriteString(w, strings.TrimSuffix(m.String(), "\n"))
	return err
}

// markdown builds a report.
type markdown struct {
	strings.Builder
	*view
}

// line writes a paragraph.
func (m *markdown) line(format string, values ...any) { fmt.Fprintf(m, format+"\n\n", values...) }

// row writes a row of a table.
func (m *markdown) row(cells ...string) {
	for _, cell := range cells {
		m.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
	}
	m.WriteString("|\n")
}

// heads writes the head of a table by the words of its columns.
func (m *markdown) heads(keys ...string) {
	cells, rules := make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		cells[i], rules[i] = m.word(key), "---"
	}
	m.row(cells...)
	m.row(rules...)
}

func (m *markdown) groups() {
	m.line("## %s", m.word("attention"))
	switch {
	case len(m.Groups) > 0:
	case m.Period == "":
		m.line("%s", m.word("nothing"))
		return
	default:
		m.line("%s", m.word("none"))
		return
	}
	m.line("%s", m.word("attention.is"))
	m.heads("count", "process", "service", "peer", "path", "first", "last", "why")
	for _, g := range m.Groups[:min(len(m.Groups), maxRows)] {
		m.row(g.Count, code(g.Process), code(g.Service), code(g.Peer), code(g.Path), g.First, g.Last, code(g.Why))
	}
	m.WriteString("\n")
	switch left := len(m.Groups) - maxRows; {
	case left > 0:
		m.line("%s", m.word("rows"))
	case m.More != "":
		m.line("%s", m.More)
	}
}

func (m *markdown) chart() {
	if m.Chart == nil {
		return
	}
	m.line("## %s", m.word("time"))
	m.line("%s", m.Chart.About)
	cells, rules := []string{m.word("begin")}, []string{"---"}
	for _, s := range m.Chart.Series {
		cells, rules = append(cells, code(s.Name)), append(rules, "---:")
	}
	m.row(cells...)
	m.row(rules...)
	for _, r := range m.Chart.Rows {
		m.row(append([]string{r.Begin}, r.Counts...)...)
	}
	m.WriteString("\n")
}

func (m *markdown) verdict(s *verdict) {
	m.line("### %s: %s", code(s.Path), s.Title)
	m.line("**%s** %s", s.Count, m.counted(s.Count, "endings"))
	switch {
	case s.Follows != "":
		m.line("%s %s", m.word("follows"), code(s.Follows))
	case s.Ladder == nil:
		m.line("%s", m.word("noexample"))
	default:
		m.block(s.Ladder.Text(ladder.Layout{Width: textWide, Say: m.Say}))
	}
	if s.Cut != "" {
		m.line("%s", s.Cut)
	}
	m.list("reasons", s.Reasons)
	m.list("gets", s.Gets)
	if s.Avoid != "" {
		m.line("**%s**", m.word("avoid"))
		m.line("%s", plain(s.Avoid))
	}
	m.line("%s", m.phrase("next", code("closetrace explain "+s.Path)))
}

func (m *markdown) environment() {
	m.line("## %s", m.word("environment"))
	for _, file := range m.Files {
		m.WriteString("- " + code(file) + "\n")
	}
	if len(m.Files) > 0 {
		m.WriteString("\n")
	}
	if m.MoreFiles != "" {
		m.line("%s", m.MoreFiles)
	}
	for _, line := range m.Joined {
		m.WriteString("- " + code(line) + "\n")
	}
	if len(m.Joined) > 0 {
		m.WriteString("\n")
	}
	for _, r := range m.Recordings {
		for _, f := range r.Facts {
			m.WriteString("- " + f.Name + ": " + code(f.Count) + "\n")
		}
		m.WriteString("\n")
		m.list("losses", r.Remarks)
	}
}

func (m *markdown) figures(all []figure) {
	for _, f := range all {
		m.WriteString("- " + f.Count + " " + code(f.Name) + "\n")
	}
	m.WriteString("\n")
}

// list writes sentences under a heading.
func (m *markdown) list(head string, sentences []string) {
	if len(sentences) == 0 {
		return
	}
	m.line("**%s**", m.word(head))
	for _, text := range sentences {
		m.WriteString("- " + code(text) + "\n")
	}
	m.WriteString("\n")
}

// block writes lines as they are.
func (m *markdown) block(text string) {
	fence := strings.Repeat("`", max(3, longest(text)+1))
	m.line("%s\n%s\n%s", fence, strings.TrimRight(text, "\n"), fence)
}

// code returns text as code within a line.
func code(text string) string {
	if text == "" {
		return ""
	}
	ticks := strings.Repeat("`", longest(text)+1)
	if strings.HasPrefix(text, "`") || strings.HasSuffix(text, "`") {
		text = " " + text + " "
	}
	return ticks + text + ticks
}

// longest returns the number of backticks that the longest row of them has.
func longest(text string) int {
	most, n := 0, 0
	for _, r := range text {
		if n++; r != '`' {
			n = 0
		}
		most = max(most, n)
	}
	return most
}

// plain returns text in which no character means anything to Markdown.
func plain(text string) string { return marks.Replace(text) }

var marks = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;",
	"&", "&amp;", "#", `\#`, "@", "@\u200b", "|", `\|`)
