//go:build linux

package live

import (
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/probe"
)

// In every scenario of the lab the endings are those that it lists, the
// kernel's counters move as it says, every FIN and RST on the wire has its
// ending, and every ending that tells of one its segment.
func TestLab(t *testing.T) {
	scenarios, err := lab.Scenarios()
	must(t, err)
	tr := trace(t, probe.Filter{})
	tr.mayMiss = true // as long as no FIN or RST is
	noteInstructions(t)
	report.Kernel, report.Attach = tr.header.Kernel, tr.header.Attach
	for _, hook := range tr.header.Missing {
		addGap(hook)
	}
	if tr.blindToReplies() {
		addGap("replies")
	}
	t.Cleanup(func() { // when those that run side by side have ended, too
		t.Logf("lab, %s: %d scenarios passed, %d failed; explained %d/%d segments",
			tr.header.Attach, report.Passed, report.Failed, report.Explained, report.Seen)
		if report.Seen == 0 {
			t.Error("nothing was seen on the wire")
		}
		checkGaps(t)
	})
	for _, sc := range scenarios {
		t.Run(sc.Name, func(t *testing.T) {
			if !sc.Alone() {
				t.Parallel()
			}
			t.Cleanup(func() {
				if !t.Skipped() {
					addScenario(!t.Failed())
				}
			})
			var m matching
			attempts(t, func(t testing.TB) { m = runScenario(t, tr, sc) })
			addSegments(m)
		})
	}
}

// runScenario runs one scenario under the witness, up to the end of all its
// sockets, and returns what was on the wire.
func runScenario(t testing.TB, tr *tracer, sc *lab.Scenario) (m matching) {
	t.Helper()
	defer tr.countMissed(t)()
	var w *witness
	begin := func(*lab.Result) (err error) {
		w, err = newWitness()
		return err
	}
	settle := func(res *lab.Result) {
		w.settle(tr, func() bool { return len(w.mistold(tr, sc, res)) == 0 })
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
	for _, m := range append(w.mistold(tr, sc, res), moved...) {
		t.Error(m)
	}
	w.settle(tr, nil)
	w.close(t)
	if m = w.match(tr); !m.whole() {
		t.Errorf("explained %v", m)
	} else if err != nil || len(moved) > 0 {
		didOtherwise(t) // and all of that was explained
	}
	if t.Failed() {
		t.Error(w.told(tr, nil))
	}
	return m
}

// mistold is how the endings differ from what a scenario lists.
func (w *witness) mistold(tr *tracer, sc *lab.Scenario, res *lab.Result) []lab.Mismatch {
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
