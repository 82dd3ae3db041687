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

// replay classifies recorded events.
func replay(t *testing.T, text []byte) (*lab.Result, []lab.Seen) {
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
	var seen []lab.Seen
	c := classify.New(r.Header)
	keep := func(e *events.Ending) {
		fields := map[string]any{}
		if err := json.Unmarshal(e.AppendJSON(nil), &fields); err != nil {
			t.Fatalf("%v in %s", err, e.AppendJSON(nil))
		}
		seen = append(seen, lab.Seen{
			Local: e.Local, Remote: e.Remote, Path: string(e.Path), Fields: fields, MonoNS: e.MonoNS, Netns: e.Netns,
		})
	}
	for ev, err := range r.Events() {
		if err != nil {
			t.Fatal(err)
		}
		c.Push(ev, keep)
	}
	c.Flush(keep)
	return &head.Run, seen
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
