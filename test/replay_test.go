package test

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/record"
)

// The recorded events of each scenario give the endings that it expects, in each attach mode, on any machine.
// `make record` records them again.
func TestReplay(t *testing.T) {
	scenarios, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	for _, sc := range scenarios {
		for _, mode := range lab.Modes {
			section, ok := sc.Section("events." + mode + ".jsonl")
			if !ok {
				t.Errorf("%s has no recorded events of mode %s: MODES=%s test/record.sh %s", sc.Name, mode, mode, sc.Name)
				continue
			}
			t.Run(mode+"/"+sc.Name, func(t *testing.T) {
				res, seen := replay(t, section)
				for _, m := range lab.Compare(sc, mode, res, seen) {
					t.Error(m)
				}
			})
		}
	}
}

// recording decodes recorded events and the result of the run that recorded them.
func recording(t *testing.T, text []byte) (events.Header, *lab.Result, []events.Event) {
	t.Helper()
	var head struct {
		Run lab.Result `json:"run"`
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	if err := json.Unmarshal(first, &head); err != nil {
		t.Fatal(err)
	}
	r, err := record.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var all []events.Event
	for ev, err := range r.Events() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, *ev)
	}
	return r.Header, &head.Run, all
}

// replay classifies recorded events.
func replay(t *testing.T, text []byte) (*lab.Result, []lab.Seen) {
	t.Helper()
	header, run, recorded := recording(t, text)
	var seen []lab.Seen
	c := classify.New(header)
	keep := func(e *events.Ending) {
		one, err := lab.ReadSeen(e.AppendJSON(nil))
		if err != nil {
			t.Fatalf("%v in %s", err, e.AppendJSON(nil))
		}
		seen = append(seen, one)
	}
	for _, ev := range recorded {
		c.Push(&ev, keep)
	}
	c.Flush(keep)
	return run, seen
}

// recordedRun is a scenario that was recorded in an attach mode.
type recordedRun struct {
	scenario *lab.Scenario
	mode     string
}

// recordings are those of all scenarios, in all attach modes.
func recordings(t *testing.T) iter.Seq2[recordedRun, []byte] {
	t.Helper()
	scenarios, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func(recordedRun, []byte) bool) {
		for _, sc := range scenarios {
			for _, mode := range lab.Modes {
				section, ok := sc.Section("events." + mode + ".jsonl")
				if ok && !yield(recordedRun{sc, mode}, section) {
					return
				}
			}
		}
	}
}

// The same events give the same endings, byte for byte.
func TestReplayIsDeterministic(t *testing.T) {
	for at, section := range recordings(t) {
		var texts [2]string
		for i := range texts {
			_, seen := replay(t, section)
			b, err := json.Marshal(seen)
			if err != nil {
				t.Fatal(err)
			}
			texts[i] = string(b)
		}
		if strings.Compare(texts[0], texts[1]) != 0 {
			t.Errorf("%s, %s: replayed twice, two results", at.scenario.Name, at.mode)
		}
	}
}
