package pipeline

import (
	"bytes"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Losses are reported when they happen, at most once a second, and each once.
func TestLossNotices(t *testing.T) {
	var out bytes.Buffer
	n := lossNotice{out: &out}
	n.add(&events.Event{LostRecords: 1200, MissedProbes: 1})
	n.add(&events.Event{LostRecords: 1})
	n.add(&events.Event{MissedProbes: 2})
	n.report()
	const first = "closetrace: lost 1,200 records and missed 1 probe; verdicts that rest on this time are inferred\n"
	if out.String() != first {
		t.Errorf("within a second: %q", out.String())
	}
	n.next = time.Now()
	n.report()
	n.next = time.Now()
	n.report()
	const second = "closetrace: lost 1 record and missed 2 probes; verdicts that rest on this time are inferred\n"
	if out.String() != first+second {
		t.Errorf("later: %q", out.String())
	}
	n = lossNotice{}
	n.add(&events.Event{LostRecords: 1}) // to nowhere
}
