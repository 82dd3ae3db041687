package explain

import "slices"

// Advice returns how to avoid a path, with its heading, or "" if there is no such path.
func (l *Library) Advice(path string, o Layout) string { return l.section(path, "avoid", o) }

// Peer returns what the peer of a path sees, with its heading, or "" if there is no such path.
func (l *Library) Peer(path string, o Layout) string { return l.section(path, "peer", o) }

// section returns a section of the page of a path.
func (l *Library) section(path, name string, o Layout) string {
	i := slices.IndexFunc(l.paths, func(p *Page) bool { return p.Name == path })
	if i < 0 {
		return ""
	}
	w := &printer{Layout: o, words: words[o.Language]}
	w.WriteString(w.bold(w.words[name]) + "\n")
	w.body(l.paths[i].text(o.Language, name), "  ")
	return w.String()
}
