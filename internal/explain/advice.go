package explain

import (
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/sink/table"
)

// Advice returns how to avoid a path, with its heading, or "" if there is no such path.
func (l *Library) Advice(path string, o Layout) string { return l.section(path, "avoid", o) }

// Peer returns what the peer of a path sees, with its heading, or "" if there is no such path.
func (l *Library) Peer(path string, o Layout) string { return l.section(path, "peer", o) }

// section returns a section of the page of a path.
func (l *Library) section(path, name string, o Layout) string {
	text := l.of(path).text(o.Language, name)
	if text == "" {
		return ""
	}
	w := &printer{Layout: o, words: words[o.Language]}
	w.WriteString(w.bold(w.words[name]) + "\n")
	w.body(text, "  ")
	return w.String()
}

// Avoid returns how to avoid a path, as one line without a heading, or "" if there is no such path.
func (l *Library) Avoid(path string, language Language) string {
	text := ""
	for line := range strings.Lines(l.of(path).text(language, "avoid")) {
		text = table.Join(text, strings.TrimSpace(line))
	}
	return text
}

// Title returns the title of a path, or "" if there is no such path.
func (l *Library) Title(path string, language Language) string { return l.of(path).Title(language) }

// of returns the page of a path, one without text if there is none.
func (l *Library) of(path string) *Page {
	i := slices.IndexFunc(l.paths, func(p *Page) bool { return p.Name == path })
	if i < 0 {
		return &Page{}
	}
	return l.paths[i]
}
