package labrun

import (
	"context"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/sockets"
	"github.com/closetrace/closetrace/internal/stuck"
)

// How long to wait for what a scenario expects.
const (
	// reportTimeout bounds the wait for the expected endings. The first stack waits until the kernel's symbols have
	// been read.
	reportTimeout = 30 * time.Second
	// quietPeriod is how long no other ending may follow them: longer than a tick of the probe, and than an ending is
	// pending in the classifier.
	quietPeriod = 250 * time.Millisecond
)

// settle waits until the expected endings were reported, or for reportTimeout, and then for unexpected ones.
func (r *runner) settle(ctx context.Context, sc *lab.Scenario, res *lab.Result) {
	const pause = 10 * time.Millisecond
	before := -1
	for end := time.Now().Add(reportTimeout); ctx.Err() == nil && time.Now().Before(end); time.Sleep(pause) {
		seen := r.collector.endings(sc, res)
		if len(seen) != before && len(compare(lab.Compare, sc, r.header.Attach, res, seen)) == 0 {
			break
		}
		before = len(seen)
	}
	time.Sleep(quietPeriod)
}

// comparison is [lab.Compare] or [lab.Contradictions].
type comparison func(sc *lab.Scenario, mode string, res *lab.Result, seen []lab.Seen) []lab.Mismatch

// compare returns how the endings that were reported differ from those that the scenario expects.
func compare(
	by comparison, sc *lab.Scenario, mode string, res *lab.Result, seen []events.Ending,
) []lab.Mismatch {
	var all []lab.Seen
	for i := range seen {
		one, err := lab.ReadSeen(seen[i].AppendJSON(nil))
		if err != nil {
			return []lab.Mismatch{{Text: err.Error()}}
		}
		all = append(all, one)
	}
	return by(sc, mode, res, all)
}

// openSockets are the diagnoses of the sockets that are open after a scenario's steps, and how they differ from what
// the scenario expects.
type openSockets struct {
	found      []stuck.Finding
	mismatches []lab.Mismatch
}

// findStuck diagnoses the open sockets of a scenario that expects some, again and again until they are as expected
// or for reportTimeout. It runs on the scenario's thread, which is in the scenario's network namespace.
func (r *runner) findStuck(ctx context.Context, sc *lab.Scenario, res *lab.Result) (o openSockets) {
	if len(sc.Stuck) == 0 {
		return o
	}
	for end := time.Now().Add(reportTimeout); ; time.Sleep(20 * time.Millisecond) {
		found, err := r.diagnose(res.Netns)
		if err != nil {
			return openSockets{mismatches: []lab.Mismatch{{Text: err.Error()}}}
		}
		o.found = found
		var seen []lab.StuckSeen
		for _, f := range found {
			endpoint := lab.Endpoint{Local: f.Local, Remote: f.Remote}
			seen = append(seen, lab.StuckSeen{Endpoint: endpoint, Diagnosis: string(f.Diagnosis)})
		}
		o.mismatches = lab.CompareStuck(sc, res, seen)
		if len(o.mismatches) == 0 || ctx.Err() != nil || time.Now().After(end) {
			return o
		}
	}
}

// diagnose diagnoses the open sockets of the calling thread's network namespace.
func (r *runner) diagnose(netns uint32) ([]stuck.Finding, error) {
	snapshot, err := r.Sockets.Look(sockets.Request{
		Namespaces: map[uint32]string{netns: ""}, WantHolders: stuck.WantHolders,
	})
	if err != nil {
		return nil, err
	}
	return stuck.Find(snapshot), nil
}
