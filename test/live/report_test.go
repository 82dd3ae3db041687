//go:build linux

package live

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// report is what this run tells the matrix: CLOSETRACE_REPORT names its file.
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

// addSegments counts what the wire witness saw.
func addSegments(m matching) {
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

// addGap notes what this kernel does not offer.
func addGap(gap string) {
	report.Lock()
	defer report.Unlock()
	if !slices.Contains(report.Gaps, gap) {
		report.Gaps = append(report.Gaps, gap)
	}
}

// checkGaps compares what this kernel does not offer with what it is known not
// to: CLOSETRACE_GAPS, where that is set.
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
			t.Errorf("this kernel does not offer %s, which it is not known for", gap)
		}
	}
	for _, gap := range want {
		if !slices.Contains(report.Gaps, gap) {
			t.Errorf("this kernel offers %s, and is known not to", gap)
		}
	}
}

// noteInstructions keeps how much the verifier had to do.
func noteInstructions(t testing.TB) {
	t.Helper()
	verified := map[string]uint32{}
	for _, prog := range ours(t) {
		if n, ok := prog.VerifiedInstructions(); ok {
			verified[prog.Name] = n
		}
	}
	report.Lock()
	defer report.Unlock()
	report.Instructions = verified
}
