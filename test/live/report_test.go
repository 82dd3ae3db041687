//go:build linux

package live

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// report is written to the file that CLOSETRACE_REPORT names, for the matrix.
var report struct {
	sync.Mutex
	guest.Report
}

func writeReport(path string) error {
	if path == "" {
		return nil
	}
	report.Lock()
	defer report.Unlock()
	text, err := json.Marshal(report.Report)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// addRetriable counts a test that attempts may try again.
func addRetriable() {
	report.Lock()
	defer report.Unlock()
	report.Retriable++
}

// addRetry adds a failure that was excused.
func addRetry(test, reason string) {
	report.Lock()
	defer report.Unlock()
	report.Retries = append(report.Retries, guest.Retry{Test: test, Reason: reason})
}

// addSegments counts the segments of the wire capture.
func addSegments(m matchResult) {
	report.Lock()
	defer report.Unlock()
	report.Explained += m.explained
	report.Seen += m.seen() + m.unseen
}

// addScenario counts a scenario that ran.
func addScenario(passed bool) {
	report.Lock()
	defer report.Unlock()
	if passed {
		report.Passed++
	} else {
		report.Failed++
	}
}

// addGap adds something that this kernel does not offer.
func addGap(gap string) {
	report.Lock()
	defer report.Unlock()
	if !slices.Contains(report.Gaps, gap) {
		report.Gaps = append(report.Gaps, gap)
	}
}

// checkGaps compares what this kernel does not offer with the known gaps of
// CLOSETRACE_GAPS, where that is set.
func checkGaps(t *testing.T) {
	t.Helper()
	text, known := os.LookupEnv("CLOSETRACE_GAPS")
	if !known {
		return
	}
	want := strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
	report.Lock()
	defer report.Unlock()
	for _, gap := range report.Gaps {
		if !slices.Contains(want, gap) {
			t.Errorf("this kernel does not offer %s, which is not one of its known gaps", gap)
		}
	}
	for _, gap := range want {
		if !slices.Contains(report.Gaps, gap) {
			t.Errorf("this kernel offers %s, which is one of its known gaps", gap)
		}
	}
}

// noteInstructions adds how many instructions the verifier looked at.
func noteInstructions(t testing.TB) {
	t.Helper()
	verified := map[string]uint32{}
	for o := range held(t, os.Getpid()) {
		if o.key != "prog_id" {
			continue
		}
		if info := programInfo(ebpf.ProgramID(o.id)); info != nil {
			if n, ok := info.VerifiedInstructions(); ok {
				verified[info.Name] = n
			}
		}
	}
	report.Lock()
	defer report.Unlock()
	report.Instructions = verified
}
