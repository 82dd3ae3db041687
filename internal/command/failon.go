package command

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/hint"
)

// FailOn is the policy of --fail-on: it counts the endings of the command that
// match one of its patterns.
type FailOn struct {
	patterns []filter.Pattern
	matched  map[events.Path]int
}

// NewFailOn returns a policy that no ending has been counted by.
func NewFailOn(patterns []filter.Pattern) *FailOn {
	return &FailOn{patterns: patterns, matched: map[events.Path]int{}}
}

// Active reports whether the policy has patterns.
func (f *FailOn) Active() bool { return len(f.patterns) > 0 }

// Count counts an ending if it matches.
func (f *FailOn) Count(e *events.Ending) {
	if filter.MatchAny(f.patterns, e) {
		f.matched[e.Path]++
	}
}

// Err returns the error of kind [hint.FailOn] for a command that ended as status
// says, or nil if no ending matched.
func (f *FailOn) Err(status string) error {
	if len(f.matched) == 0 {
		return nil
	}
	var all []string
	for _, path := range slices.Sorted(maps.Keys(f.matched)) {
		all = append(all, fmt.Sprintf("%s (%d)", path, f.matched[path]))
	}
	return hint.New(hint.FailOn, fmt.Sprintf("--fail-on: %s; the command itself: %s", strings.Join(all, ", "), status), "")
}
