package test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/record"
)

// The recorded events of each scenario give the endings that it expects, on any
// machine. `make record` records them anew.
func TestReplay(t *testing.T) {
	scenarios, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	replayed := map[string]int{}
	for _, sc := range scenarios {
		for _, mode := range lab.Modes {
			section, ok := sc.Section("events." + mode + ".jsonl")
			if !ok {
				continue
			}
			replayed[mode]++
			t.Run(mode+"/"+sc.Name, func(t *testing.T) {
				res, seen := replay(t, section)
				for _, m := range lab.Compare(sc, mode, res, seen) {
					t.Error(m)
				}
			})
		}
	}
	for _, mode := range lab.Modes {
		if replayed[mode] < len(scenarios)*9/10 {
			t.Errorf("only %d of %d scenarios have recorded events of mode %s", replayed[mode], len(scenarios), mode)
		}
	}
}

// recording reads recorded events, and what the run that they are of left behind.
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

// The same events give the same endings, to the letter.
func TestReplayIsDeterministic(t *testing.T) {
	scenarios, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	for _, sc := range scenarios {
		for _, mode := range lab.Modes {
			section, ok := sc.Section("events." + mode + ".jsonl")
			if !ok {
				continue
			}
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
				t.Errorf("%s, %s: replayed twice, two results", sc.Name, mode)
			}
		}
	}
}
