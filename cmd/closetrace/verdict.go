package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
)

// What can become of a scenario.
const (
	pass        = "pass"
	fail        = "fail"
	notPossible = "not possible here"
)

// verdict is what became of a scenario; its JSON form is the lab's.
type verdict struct {
	Name     string     `json:"name"`
	Title    string     `json:"title"`
	Attach   string     `json:"attach"`
	Verdict  string     `json:"verdict"`
	Reason   string     `json:"reason,omitempty"` // why it is not possible here
	Expected []string   `json:"expected"`
	Seen     []seenPath `json:"seen"`
	// Stuck are the sockets that wait for their end, where the scenario is about them.
	Stuck []stuckSocket `json:"stuck,omitempty"`
	// Mismatches say in plain words why it failed.
	Mismatches []string `json:"mismatches,omitempty"`
	// Unseen is why this attach mode does not see all of it.
	Unseen string `json:"unseen,omitempty"`
	// otherwise: a step had another outcome, or the kernel's own counters moved
	// otherwise, than the scenario means. That is not closetrace's doing.
	otherwise bool
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

// judge compares what was seen, and what the kernel counted, with what has to
// be.
func (v *verdict) judge(sc *lab.Scenario, res *lab.Result, seen []events.Ending) {
	for _, e := range seen {
		v.Seen = append(v.Seen, seenPath{string(e.Path), e.Cause})
	}
	for _, m := range compare(sc, v.Attach, res, seen) {
		v.fail(m.String())
	}
	for _, m := range lab.CompareCounters(sc, res) {
		v.fail(m.String())
		v.otherwise = true
	}
}

// judgeOpen takes what was found of the sockets that have not ended.
func (v *verdict) judgeOpen(o *stillOpen) {
	for i := range o.found {
		f := &o.found[i]
		v.Stuck = append(v.Stuck, stuckSocket{f.State.String(), string(f.Diagnosis), f.Why})
	}
	for _, m := range o.wrong {
		v.fail(m.String())
	}
}

func (v *verdict) fail(why string) {
	v.Verdict = fail
	v.Mismatches = append(v.Mismatches, why)
}

// text is the verdict for people.
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

// tally tells verdicts as they come, and counts them.
type tally struct {
	mu                         sync.Mutex
	format                     format
	out                        io.Writer
	passed, failed, impossible int
}

func (t *tally) add(v *verdict) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch v.Verdict {
	case pass:
		t.passed++
	case fail:
		t.failed++
	default:
		t.impossible++
	}
	if t.format == formatJSON {
		enc := json.NewEncoder(t.out)
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	_, err := io.WriteString(t.out, v.text())
	return err
}

// finish tells the counts: to people where they read the verdicts, otherwise on
// standard error. A run without a scenario that ran is a failure.
func (t *tally) finish(stderr io.Writer, h events.Header) error {
	to := t.out
	if t.format == formatJSON {
		to = stderr
	}
	_, err := fmt.Fprintf(to, "%d passed, %d failed, %d not possible here, by %s on %s\n",
		t.passed, t.failed, t.impossible, h.Attach, h.Kernel)
	switch {
	case err != nil:
		return outputError(err)
	case t.failed > 0:
		return errReported
	case t.passed == 0:
		return fmt.Errorf("no scenario could be run")
	}
	if t.format != formatJSON {
		_, err = fmt.Fprintln(t.out, "to trace the whole machine: sudo ./closetrace")
	}
	return outputError(err)
}
