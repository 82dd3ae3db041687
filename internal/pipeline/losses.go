package pipeline

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// noticeEvery is how often losses are reported at most.
const noticeEvery = time.Second

// lossNotice reports losses while they happen.
type lossNotice struct {
	out             io.Writer // nil: reports nothing
	records, probes uint64    // not reported yet
	next            time.Time // no report before
}

func (n *lossNotice) add(ev *events.Event) {
	n.records, n.probes = n.records+uint64(ev.LostRecords), n.probes+uint64(ev.MissedProbes)
	n.report()
}

// report reports what was lost since the last report, unless that was a moment ago.
func (n *lossNotice) report() {
	if n.out == nil || n.records+n.probes == 0 {
		return
	}
	now := time.Now()
	if now.Before(n.next) {
		return
	}
	fmt.Fprintf(n.out, "closetrace: %s; verdicts that rest on this time are inferred\n", lossesOf(n.records, n.probes))
	n.records, n.probes, n.next = 0, 0, now.Add(noticeEvery)
}

func lossesOf(records, probes uint64) string {
	var parts []string
	if records > 0 {
		parts = append(parts, "lost "+events.Quantity(records, "record", "records"))
	}
	if probes > 0 {
		parts = append(parts, "missed "+events.Quantity(probes, "probe", "probes"))
	}
	return strings.Join(parts, " and ")
}
