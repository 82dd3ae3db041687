//go:build linux

package live

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/probe"
)

// In every scenario of the lab the endings are those that it lists, the kernel's
// counters move as it says, every FIN and RST on the wire has its ending, and
// every ending that reports one has its segment. A recording of all of that puts
// the comment of its ending on each FIN and RST of a capture.
func TestLab(t *testing.T) {
	scenarios := labScenarios(t)
	recording := filepath.Join(t.TempDir(), "lab.rec.zst")
	tr := traceTo(t, fullTier(t), recording)
	sent := &labCapture{tracer: tr}
	noteInstructions(t)
	report.Kernel, report.Attach = tr.header.Kernel, tr.header.Attach
	for _, hook := range tr.header.Missing {
		addGap(hook)
	}
	if tr.blindToReplies() {
		addGap("replies")
	}
	t.Cleanup(func() { // after the parallel ones
		t.Logf("lab, %s: %d scenarios passed, %d failed; explained %d/%d segments",
			tr.header.Attach, report.Passed, report.Failed, report.Explained, report.Seen)
		if report.Seen == 0 {
			t.Error("nothing was seen on the wire")
		}
		checkGaps(t)
		sent.check(t, recording)
	})
	runLab(t, tr, nil, scenarios, addScenario, func(sc *lab.Scenario, w *capture, m matchResult) {
		addSegments(m)
		sent.add(sc, w)
	})
}

// In the quiet tier all of that holds as well: ordinary closes are counted, and noted once, and everything else is
// reported in the same words as by a tracer in the full tier, which runs at the same time.
func TestLabQuiet(t *testing.T) {
	scenarios := labScenarios(t)
	o := probe.Options{SharedCloses: true, CloseWait: 10 * time.Second, Log: slog.New(slog.DiscardHandler)}
	full := traceWith(t, o)
	full.mayMiss = true // as in the quiet tier
	o.Quiet = probe.Quiet{Active: true, Passive: true}
	tr := traceWith(t, o)
	var passed, failed, explained, seen int
	var mu sync.Mutex
	t.Cleanup(func() { // after the parallel ones
		t.Logf("quiet lab, %s: %d scenarios passed, %d failed; explained %d/%d segments",
			tr.header.Attach, passed, failed, explained, seen)
		if seen == 0 {
			t.Error("nothing was seen on the wire")
		}
		counted := tr.probe.Counted()
		whole := passed+failed > len(scenarios)/2 // not some of them by -run
		if whole && (counted[events.CloseFINActive] == 0 || counted[events.CloseFINPassive] == 0) {
			t.Errorf("counted %v", counted)
		}
	})
	runLab(t, tr, full, scenarios, func(ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if ok {
			passed++
		} else {
			failed++
		}
	}, func(_ *lab.Scenario, _ *capture, m matchResult) {
		mu.Lock()
		defer mu.Unlock()
		explained, seen = explained+m.explained, seen+m.seen()
	})
}

// labScenarios returns all scenarios. What they need of netfilter is loaded, so that its functions can be traced.
func labScenarios(t *testing.T) []*lab.Scenario {
	t.Helper()
	scenarios, err := lab.Scenarios()
	must(t, err)
	lab.LoadFirewall(scenarios)
	return scenarios
}

// runLab runs all scenarios, and reports whether each passed, what it sent, and what explained that. full, if it is not
// nil, is a tracer in the full tier, whose lines are those of tr.
func runLab(
	t *testing.T, tr, full *tracer, scenarios []*lab.Scenario,
	addScenario func(passed bool), addSegments func(*lab.Scenario, *capture, matchResult),
) {
	tr.mayMiss = true // as long as no FIN or RST is
	for _, sc := range scenarios {
		if tr.probe.Counted() != nil {
			sc = sc.Counting(string(events.CloseFINActive), string(events.CloseFINPassive), string(events.RecvFIN))
		}
		t.Run(sc.Name, func(t *testing.T) {
			if !sc.Alone() {
				t.Parallel()
			}
			t.Cleanup(func() {
				if !t.Skipped() {
					addScenario(!t.Failed())
				}
			})
			var w *capture
			var m matchResult
			attempts(t, func(t testing.TB) { w, m = runScenario(t, tr, full, sc) })
			if w != nil {
				addSegments(sc, w, m)
			}
		})
	}
}

// runScenario runs one scenario with a wire capture until all its sockets are
// gone, and returns the capture and how segments and endings match. full is as in
// runLab.
func runScenario(t testing.TB, tr, full *tracer, sc *lab.Scenario) (w *capture, m matchResult) {
	t.Helper()
	defer tr.countMissed(t)()
	if full != nil {
		defer full.countMissed(t)()
	}
	var kept []packet
	begin := func(*lab.Result) (err error) {
		w, err = startCaptureTo(func(data []byte, at time.Time) { kept = append(kept, packet{at, bytes.Clone(data)}) })
		if err == nil {
			w.firewall = slices.Contains(sc.Needs, "nf_tables")
		}
		return err
	}
	settle := func(res *lab.Result) {
		w.settle(tr, func() bool { return len(w.mismatches(tr, sc, res)) == 0 })
	}
	res, err := sc.RunWith(t.Context(), begin, settle)
	switch {
	case err != nil && w == nil:
		t.Fatal(err)
	case err != nil:
		t.Error(err)
	case w == nil:
		addGap(strings.TrimPrefix(res.Unmet, "sysctl "))
		t.Skip("not possible here: " + res.NotPossible)
	}
	moved := lab.CompareCounters(sc, res)
	for _, m := range append(w.mismatches(tr, sc, res), moved...) {
		t.Error(m)
	}
	w.settle(tr, nil)
	w.close(t)
	if m = w.match(tr); !m.complete() {
		t.Errorf("explained %v", m)
	} else if err != nil || len(moved) > 0 {
		didOtherwise(t) // and all of that was explained
	}
	if full != nil {
		w.compareTiers(t, tr, full)
	}
	if t.Failed() {
		t.Error(w.describe(tr, nil))
		return w, m
	}
	w.kept = kept
	return w, m
}

// mismatches returns how the endings differ from those that a scenario lists.
func (w *capture) mismatches(tr *tracer, sc *lab.Scenario, res *lab.Result) []lab.Mismatch {
	var seen []lab.Seen
	for _, e := range w.endings(tr) {
		one, err := lab.ReadSeen(e.AppendJSON(nil))
		if err != nil {
			return []lab.Mismatch{{Text: err.Error()}}
		}
		seen = append(seen, one)
	}
	return lab.Compare(sc, tr.header.Attach, res, seen)
}
