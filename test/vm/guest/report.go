package guest

import (
	"fmt"
	"strings"
)

// Report is what the live tests found out about one attach mode on one kernel.
type Report struct {
	Kernel string `json:"kernel"` // its release
	Attach string `json:"attach"` // the mode
	Passed int    `json:"passed"` // scenarios of the lab
	Failed int    `json:"failed"`
	// Explained and Seen count segments with FIN or RST, by the lab and by the
	// random workload.
	Explained int `json:"explained"`
	Seen      int `json:"seen"`
	// Gaps are what the kernel does not offer: unmet needs of scenarios, hooks
	// that could not be attached.
	Gaps []string `json:"gaps"`
	// Instructions that the kernel's verifier looked at, by program; nothing
	// before Linux 5.16.
	Instructions map[string]uint32 `json:"instructions,omitempty"`
	// Retriable counts the tests that are tried again if something excuses their
	// failure, Retries lists every time that this happened.
	Retriable int     `json:"retriable"`
	Retries   []Retry `json:"retries,omitempty"`
}

// Retry is a failure of a test that was tried again.
type Retry struct {
	Test   string `json:"test"`
	Reason string `json:"reason"` // why it was excused
}

// Again is the reason of a test that failed, and passed in a second try with nothing beside it.
const Again = "it failed, and passed when it ran again, alone"

// A run may retry 5 % of the tests that can be retried, and at least two, so that
// a run of few tests does not fail at its first retry.
const (
	maxRetryPercent = 5
	minRetries      = 2
)

// CheckRetries returns an error that lists the retries of a run, if they are more
// than it may have.
func (r *Report) CheckRetries() error {
	if len(r.Retries) <= max(minRetries, r.Retriable*maxRetryPercent/100) {
		return nil
	}
	var list strings.Builder
	for _, retry := range r.Retries {
		fmt.Fprintf(&list, "\n\t%s: %s", retry.Test, retry.Reason)
	}
	return fmt.Errorf("%d retries in %d tests, more than %d %%:%s", len(r.Retries), r.Retriable, maxRetryPercent, &list)
}
