package labrun

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
)

// The verdicts.
const (
	pass        = "pass"
	fail        = "fail"
	notPossible = "not possible here"
)

// verdict is the outcome of a scenario, in the form that -o json prints.
type verdict struct {
	Name     string     `json:"name"`
	Title    string     `json:"title"`
	Attach   string     `json:"attach"`
	Verdict  string     `json:"verdict"`
	Reason   string     `json:"reason,omitempty"` // why it is not possible here
	Expected []string   `json:"expected"`
	Seen     []seenPath `json:"seen"`
	// Stuck are the open sockets, if the scenario expects some.
	Stuck []stuckSocket `json:"stuck,omitempty"`
	// Mismatches are the reasons why it failed.
	Mismatches []string `json:"mismatches,omitempty"`
	// Unseen is why this attach mode does not report all of it.
	Unseen string `json:"unseen,omitempty"`
	// otherPath: a step had another outcome, or the kernel's counters moved differently, than the scenario expects.
	// The kernel did not take the provoked path, and the scenario says nothing about closetrace.
	otherPath bool
	endings   []events.Ending // all of its run, for the tour
	// incomplete: it failed only because an ending was not reported.
	incomplete bool
}

type seenPath struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

type stuckSocket struct {
	State     string `json:"state"`
	Diagnosis string `json:"diagnosis"`
	Why       string `json:"why"`
}

func newVerdict(sc *lab.Scenario, attach string) *verdict {
	v := &verdict{
		Name: sc.Name, Title: sc.Title, Attach: attach, Verdict: pass,
		Expected: []string{}, Seen: []seenPath{}, Unseen: sc.Unseen[attach],
	}
	for _, e := range sc.Expected(attach) {
		v.Expected = append(v.Expected, e.Path)
	}
	return v
}

// judge compares the endings that were reported, and the kernel's counters, with those that the scenario expects.
func (v *verdict) judge(sc *lab.Scenario, res *lab.Result, seen []events.Ending) {
	for _, e := range seen {
		v.Seen = append(v.Seen, seenPath{string(e.Path), e.Cause})
	}
	for _, m := range compare(lab.Compare, sc, v.Attach, res, seen) {
		v.fail(m.String())
	}
	v.incomplete = len(v.Mismatches) > 0 && len(compare(lab.Contradictions, sc, v.Attach, res, seen)) == 0
	for _, m := range lab.CompareCounters(sc, res) {
		v.fail(m.String())
		v.otherPath = true
	}
}

// judgeOpen adds the diagnoses of the open sockets.
func (v *verdict) judgeOpen(o *openSockets) {
	for i := range o.found {
		f := &o.found[i]
		v.Stuck = append(v.Stuck, stuckSocket{f.State.String(), string(f.Diagnosis), f.Why})
	}
	for _, m := range o.mismatches {
		v.fail(m.String())
	}
}

// explainTimeout bounds the wait for endings at the end of the window, which are reported after it.
const explainTimeout = time.Second

// judgeExplained compares the kernel's counters with those that the endings move by the table of paths. In tracepoint
// mode, and where hooks are missing, some endings are not reported.
func (v *verdict) judgeExplained(
	ctx context.Context, sc *lab.Scenario, res *lab.Result, missing []string, moved func(*lab.Result) events.Moved,
) {
	partial := v.Attach == "tracepoint" || len(events.CountedHooks(missing)) > 0 || sc.Unseen[v.Attach] != ""
	var mismatches []lab.Mismatch
	for end := time.Now().Add(explainTimeout); ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		explained := moved(res)
		mismatches = lab.CompareExplained(res, explained.Map(), partial)
		if len(mismatches) == 0 || time.Now().After(end) {
			break
		}
	}
	for _, m := range mismatches {
		v.fail(m.String())
	}
}

func (v *verdict) fail(why string) {
	v.Verdict = fail
	v.Mismatches = append(v.Mismatches, why)
}

// text returns the verdict as -o table prints it.
func (v *verdict) text() string {
	var b strings.Builder
	line := func(label, text string) { fmt.Fprintf(&b, "      %-10s%s\n", label, text) }
	if v.Verdict == notPossible {
		fmt.Fprintf(&b, "-     %s: %s\n", v.Name, v.Title)
		fmt.Fprintf(&b, "      %s: %s\n", notPossible, v.Reason)
		return b.String()
	}
	fmt.Fprintf(&b, "%s  %s: %s\n", v.Verdict, v.Name, v.Title)
	if v.Unseen != "" {
		line("unseen", "by "+v.Attach+": "+v.Unseen)
	}
	line("expected", orNothing(strings.Join(v.Expected, ", ")))
	if len(v.Seen) == 0 {
		line("seen", orNothing(""))
	}
	for _, s := range v.Seen {
		line("seen", s.Path+": "+s.Why)
	}
	for _, s := range v.Stuck {
		line("stuck", s.State+", "+s.Diagnosis+": "+s.Why)
	}
	for _, m := range v.Mismatches {
		line("wrong", m)
	}
	return b.String()
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
