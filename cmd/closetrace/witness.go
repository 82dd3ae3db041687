package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
)

// witness is the sink that remembers, for the scenarios that run.
type witness struct {
	mu   sync.Mutex
	seen map[uint32][]events.Ending // by network namespace
	raw  []events.Event
}

// Write remembers an ending.
func (w *witness) Write(e *events.Ending) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := *e
	if e.Actor != nil {
		actor := *e.Actor
		kept.Actor = &actor
	}
	if w.seen == nil {
		w.seen = map[uint32][]events.Ending{}
	}
	w.seen[e.Netns] = append(w.seen[e.Netns], kept)
	return nil
}

// Flush and Close have nothing to do.
func (w *witness) Flush() error { return nil }
func (w *witness) Close() error { return nil }

// factWitness is the recorder that remembers.
type factWitness struct {
	forgetful
	of *witness
}

// Write remembers an event.
func (w factWitness) Write(ev *events.Event) error {
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	w.of.raw = append(w.of.raw, *ev)
	return nil
}

// forget makes room once a scenario is over. The next namespace of the same
// number may be there already.
func (w *witness) forget(res *lab.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if seen, any := w.seen[res.Netns]; any {
		w.seen[res.Netns] = slices.DeleteFunc(seen, func(e events.Ending) bool { return e.MonoNS <= res.EndNS })
	}
	w.raw = w.raw[:0]
}

// endings are those of a run, as far as its scenario speaks of them.
func (w *witness) endings(sc *lab.Scenario, res *lab.Result) []events.Ending {
	w.mu.Lock()
	defer w.mu.Unlock()
	var of []events.Ending
	for _, e := range w.seen[res.Netns] {
		if within(res, e.Netns, e.MonoNS) && sc.Compares(string(e.Path)) {
			of = append(of, e)
		}
	}
	return of
}

// facts are the events of a run. The end of a wait names its socket only.
func (w *witness) facts(res *lab.Result) []events.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var of []events.Event
	sockets := map[uint64]bool{}
	for _, ev := range w.raw {
		netns := ev.Netns
		if ev.Kind == events.KindWaitOver && sockets[ev.Sock] {
			netns = res.Netns
		}
		if within(res, netns, ev.MonoNS) {
			of = append(of, ev)
			sockets[ev.Sock] = true
		}
	}
	return of
}

func within(res *lab.Result, netns uint32, monoNS uint64) bool {
	return netns == res.Netns && monoNS >= res.StartNS && monoNS <= res.EndNS
}

// How long a scenario may take to be seen.
const (
	// seenTime bounds the wait for the expected endings. The first stack waits
	// until the kernel's symbols have been read.
	seenTime = 30 * time.Second
	// quietTime is how long nothing else may come after them: longer than a
	// tick of the probe and than the classifier holds a verdict back.
	quietTime = 150 * time.Millisecond
)

// settle waits until the expected endings have been seen, or too long, and then
// for what must not come.
func (s *session) settle(ctx context.Context, sc *lab.Scenario, res *lab.Result) {
	before := -1
	for end := time.Now().Add(seenTime); ctx.Err() == nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		seen := s.witness.endings(sc, res)
		if len(seen) != before && len(compare(sc, s.header.Attach, res, seen)) == 0 {
			break
		}
		before = len(seen)
	}
	time.Sleep(quietTime)
}

func compare(sc *lab.Scenario, mode string, res *lab.Result, seen []events.Ending) []lab.Mismatch {
	var all []lab.Seen
	for i := range seen {
		one, err := lab.ReadSeen(seen[i].AppendJSON(nil))
		if err != nil {
			return []lab.Mismatch{{Text: err.Error()}}
		}
		all = append(all, one)
	}
	return lab.Compare(sc, mode, res, all)
}

// recordHead is the first line of a scenario's record: the header of any record
// and what the scenario's run left behind.
type recordHead struct {
	events.Header
	Run *lab.Result `json:"run"`
}

// keep writes the record of a run.
func keep(dir string, sc *lab.Scenario, h events.Header, res *lab.Result, facts []events.Event) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(recordHead{h, res}); err != nil {
		return fmt.Errorf("recording %s: %w", sc.Name, err)
	}
	for i := range facts {
		if err := enc.Encode(&facts[i]); err != nil {
			return fmt.Errorf("recording %s: %w", sc.Name, err)
		}
	}
	dir = filepath.Join(dir, sc.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("recording %s: %w", sc.Name, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "events."+h.Attach+".jsonl"), b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("recording %s: %w", sc.Name, err)
	}
	return nil
}
