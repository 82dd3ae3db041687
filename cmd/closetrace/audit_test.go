package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
)

// In every recorded run of a scenario the kernel's counters moved exactly as the
// endings say, but for those that timers may move after the run's window.
func TestAuditOfScenarios(t *testing.T) {
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
			t.Run(mode+"/"+sc.Name, func(t *testing.T) {
				counted, explained := replayAudit(t, section)
				for name, n := range explained {
					timers := slices.ContainsFunc(sc.Counters, func(c lab.CounterWant) bool { return c.Any && c.Name == name })
					if counted[name] != n && !timers {
						t.Errorf("%s moved by %d, explained %d", name, counted[name], n)
					}
				}
			})
		}
	}
}

// replayAudit returns how far the counters moved in a recorded run, and how far
// its endings say.
func replayAudit(t *testing.T, text []byte) (counted map[string]uint64, explained sink.Counters) {
	t.Helper()
	var head recordHead
	first, _, _ := bytes.Cut(text, []byte("\n"))
	if err := json.Unmarshal(first, &head); err != nil {
		t.Fatal(err)
	}
	r, err := record.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	a := sink.Audit{Netns: head.Run.Netns}
	c := classify.New(r.Header)
	add := func(e *events.Ending) { a.Add(e) }
	for ev, err := range r.Events() {
		if err != nil {
			t.Fatal(err)
		}
		c.Push(ev, add)
	}
	c.Flush(add)
	return head.Run.Counters, a.Explained()
}
