package filter

import (
	"strings"

	"github.com/closetrace/closetrace/internal/events"
)

// Pattern matches endings: a word of [Words], a slug with everything below it
// (close.silent.closed, or close), or a slug in which * matches anything
// (close.rst.*, *.rst).
type Pattern string

// words are the patterns that match by what happened instead of by slug.
var words = map[Pattern]func(*events.Ending) bool{
	"rst":    (*events.Ending).HasRST,
	"fin":    (*events.Ending).HasFIN,
	"errors": (*events.Ending).IsAbnormal,
}

// Words returns the patterns that are not slugs.
func Words() []string { return []string{"rst", "fin", "errors"} }

// MatchAny reports whether one of the patterns matches e.
func MatchAny(patterns []Pattern, e *events.Ending) bool {
	for _, p := range patterns {
		if p.Match(e) {
			return true
		}
	}
	return false
}

// Match reports whether the pattern matches e.
func (p Pattern) Match(e *events.Ending) bool {
	if word, ok := words[p]; ok {
		return word(e)
	}
	return p.Covers(e.Path)
}

// Covers reports whether the pattern, which is not a word, matches a path.
func (p Pattern) Covers(path events.Path) bool {
	return matches(string(p), string(path)) || strings.HasPrefix(string(path), string(p)+".")
}

// matches reports whether s is the pattern, with anything instead of each *.
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
