package classify

import "github.com/closetrace/closetrace/internal/events"

// rule says which events take a path, and why.
type rule struct {
	path  events.Path
	title string // for the PATH column, if it is not that of the path
	when  predicate
	// calledBy, if set, lists kernel functions of which one must be in the stack.
	// If the stack could not be read, otherwise decides, and the verdict is inferred.
	calledBy  []string
	otherwise predicate
	why       func(phrase, *fact) phrase
	doubt     string // if set, the verdict is inferred, and this is why
	// by, if set, is the trigger, whatever task the event ran in. An ending by a timer
	// or a segment has no actor.
	by events.Trigger
}

// predicate reports whether something is true of a fact. It has no side effects.
type predicate func(*fact) bool

const noStack = "the kernel stack could not be read (needs CAP_SYSLOG); concluded from the state of the socket"

// decide returns the first rule of the table that applies to a fact, or nil, and
// why that is inferred, "" if it was observed.
func decide(f *fact) (r *rule, inferred string) {
	if int(f.Kind) >= len(byKind) {
		return nil, "" // an event of a later version
	}
	groups := byKind[f.Kind]
	for i := range groups {
		g := &groups[i]
		if !g.when(f) {
			continue
		}
		for j := range g.rules {
			r := &g.rules[j]
			if !r.when(f) {
				continue
			}
			if len(r.calledBy) == 0 {
				return r, ""
			}
			if called, inferred := r.isCalled(f); called {
				return r, inferred
			}
		}
	}
	return nil, ""
}

// isCalled reports whether one of the functions that a rule wants is in the stack,
// and why that is inferred, "" if it was observed.
func (r *rule) isCalled(f *fact) (called bool, inferred string) {
	if f.hasStack() {
		return f.isCalledBy(r.calledBy...), ""
	}
	return r.otherwise(f), noStack
}
