package test

import (
	"testing"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
)

// In every recorded run of a scenario the kernel moved each audited counter exactly as far as the table of paths says
// that its endings do. What a path is said to move, one of its endings moves, and what it moves only under a condition,
// another does not.
func TestCountersOfScenarios(t *testing.T) {
	moves := map[events.Path]map[events.Counter][2]bool{} // of an ending: not moved, moved
	compare := func(t *testing.T, sc *lab.Scenario, section []byte) {
		header, run, recorded := recording(t, section)
		var moved events.Moved
		c := classify.New(header)
		add := func(e *events.Ending) {
			moved.Add(e)
			note(moves, e)
		}
		for _, ev := range recorded {
			c.Push(&ev, add)
		}
		c.Flush(add)
		for _, m := range lab.CompareExplained(run, moved.Map(), false) {
			t.Error(m)
		}
	}
	scenarios, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	for _, sc := range scenarios {
		for _, mode := range lab.Modes {
			section, ok := sc.Section("events." + mode + ".jsonl")
			if !ok || sc.Unseen[mode] != "" {
				continue
			}
			t.Run(mode+"/"+sc.Name, func(t *testing.T) { compare(t, sc, section) })
		}
	}
	for _, p := range events.Paths() {
		seen, recorded := moves[p.Path]
		for _, m := range p.Counters {
			switch {
			case recorded && !seen[m.Counter][1]:
				t.Errorf("no recorded ending of %s moves %s", p.Path, m.Counter)
			case recorded && m.If == "" && seen[m.Counter][0]:
				t.Errorf("a recorded ending of %s does not move %s", p.Path, m.Counter)
			}
		}
	}
}

// note keeps which counters of its path's row an ending moved, and which not.
func note(moves map[events.Path]map[events.Counter][2]bool, e *events.Ending) {
	var moved events.Moved
	moved.Add(e)
	if moves[e.Path] == nil {
		moves[e.Path] = map[events.Counter][2]bool{}
	}
	for c, n := range moved {
		seen := moves[e.Path][events.Counter(c)]
		seen[min(n, 1)] = true
		moves[e.Path][events.Counter(c)] = seen
	}
}
