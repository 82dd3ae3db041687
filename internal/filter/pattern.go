package filter

import (
	"strings"

	"github.com/closetrace/closetrace/internal/events"
)

// Pattern names endings: a word of [Words], a slug with all that is below it
// (close.silent.closed, or close), or a slug in which * stands for anything
// (close.rst.*, *.rst).
type Pattern string

// words are patterns that go by what happened and not by how it is called.
var words = map[Pattern]func(*events.Ending) bool{
	"rst":    func(e *events.Ending) bool { return e.RST || e.Path == "recv.rst" },
	"fin":    func(e *events.Ending) bool { return e.FIN || e.Path == "recv.fin" },
	"errors": IsError,
}

// Words lists the patterns that are no slugs.
func Words() []string { return []string{"rst", "fin", "errors"} }

// Any tells whether one of the patterns names e.
func Any(patterns []Pattern, e *events.Ending) bool {
	for _, p := range patterns {
		if p.Names(e) {
			return true
		}
	}
	return false
}

// Names tells whether the pattern names e.
func (p Pattern) Names(e *events.Ending) bool {
	if word, ok := words[p]; ok {
		return word(e)
	}
	return p.Covers(e.Path)
}

// Covers tells whether the pattern, which is no word, names a path.
func (p Pattern) Covers(path events.Path) bool {
	return matches(string(p), string(path)) || strings.HasPrefix(string(path), string(p)+".")
}

// matches: s is the pattern, with anything in the place of a *.
func matches(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	last := len(parts) - 1
	if last == 0 {
		return s == pattern
	}
	s, ok := strings.CutPrefix(s, parts[0])
	for _, part := range parts[1:last] {
		if !ok {
			return false
		}
		_, s, ok = strings.Cut(s, part)
	}
	return ok && strings.HasSuffix(s, parts[last])
}
