//go:build linux

package live

import (
	"testing"

	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/probe"
)

// In every scenario of the lab, every FIN and RST on the wire has its ending,
// and every ending that tells of one its segment.
func TestWireLab(t *testing.T) {
	scenarios, err := lab.Scenarios()
	must(t, err)
	tr := trace(t, probe.Filter{})
	tr.mayMiss = true // as long as no FIN or RST is
	var all matching
	for _, sc := range scenarios {
		t.Run(sc.Name, func(t *testing.T) {
			m := wireScenario(t, tr, sc)
			all = all.add(m)
		})
	}
	t.Logf("wire witness, lab, %s: explained %s", tr.header.Attach, all.score())
	if all.seen() == 0 {
		t.Error("nothing was seen on the wire")
	}
}

// wireScenario runs one scenario under the witness, up to the end of all its
// sockets.
func wireScenario(t *testing.T, tr *tracer, sc *lab.Scenario) matching {
	t.Helper()
	var w *witness
	begin := func(*lab.Result) (err error) {
		w, err = newWitness()
		return err
	}
	res, err := sc.RunWith(t.Context(), begin, func(*lab.Result) { w.settle(tr) })
	switch {
	case err != nil && w == nil:
		t.Fatal(err)
	case err != nil:
		t.Error(err)
	case w == nil:
		t.Skip("not possible here: " + res.NotPossible)
	}
	w.settle(tr)
	w.close(t)
	m := w.match(tr)
	if !m.whole() {
		t.Errorf("explained %v\n%s", m, w.told(tr, nil))
	}
	return m
}
