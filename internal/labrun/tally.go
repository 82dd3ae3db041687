package labrun

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/sink/table"
)

// tally prints verdicts in the order of the list, each once all before it are there, and counts them.
type tally struct {
	mu      sync.Mutex
	json    bool
	brief   bool // print only failures, and counts by family
	out     io.Writer
	waiting map[int]*verdict
	next    int // the place to print next
	counts
	families map[string]*counts
}

// List prints the names and titles of scenarios: as a table, or with asJSON an object per line.
func List(to io.Writer, scenarios []*lab.Scenario, asJSON bool) error {
	if asJSON {
		lines := json.NewEncoder(to)
		for _, sc := range scenarios {
			if err := lines.Encode(listed{sc.Name, sc.Title, sc.Needs}); err != nil {
				return pipeline.OutputFailure(err)
			}
		}
		return nil
	}
	t := table.Table{Columns: []table.Column{{}, {}}}
	for _, sc := range scenarios {
		t.Rows = append(t.Rows, []string{sc.Name, sc.Title})
	}
	return pipeline.OutputFailure(t.Print(to))
}

// listed is a scenario in a list.
type listed struct {
	Name  string   `json:"name"`
	Title string   `json:"title"`
	Needs []string `json:"needs,omitempty"`
}

// counts are numbers of scenarios.
type counts struct{ passed, failed, impossible int }

func (c *counts) count(v *verdict) {
	switch v.Verdict {
	case pass:
		c.passed++
	case fail:
		c.failed++
	default:
		c.impossible++
	}
}

func (c *counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d not possible here", c.passed, c.failed, c.impossible)
}

// add adds the verdict of the scenario at a place of the list.
func (t *tally) add(place int, v *verdict) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(v)
	if t.waiting == nil {
		t.waiting = map[int]*verdict{}
	}
	t.waiting[place] = v
	for t.waiting[t.next] != nil {
		if err := t.printNext(); err != nil {
			return err
		}
	}
	return nil
}

// printAll prints the verdicts that wait for others, which did not come.
func (t *tally) printAll() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.waiting) > 0 {
		if t.waiting[t.next] == nil {
			t.next++
			continue
		}
		if err := t.printNext(); err != nil {
			return err
		}
	}
	return nil
}

// printNext prints the verdict at the next place.
func (t *tally) printNext() error {
	v := t.waiting[t.next]
	delete(t.waiting, t.next)
	t.next++
	switch {
	case t.brief && v.Verdict != fail:
		return nil
	case t.json:
		enc := json.NewEncoder(t.out)
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	_, err := io.WriteString(t.out, v.text())
	return err
}

// count counts a verdict, in all and by its family.
func (t *tally) count(v *verdict) {
	t.counts.count(v)
	if t.families == nil {
		t.families = map[string]*counts{}
	}
	family := events.Path(v.Name).Family()
	if t.families[family] == nil {
		t.families[family] = &counts{}
	}
	t.families[family].count(v)
}

// printFamilies prints the counts by family.
func (t *tally) printFamilies() error {
	for _, family := range events.Families() {
		c := t.families[family]
		if c == nil {
			continue
		}
		if _, err := fmt.Fprintf(t.out, "  %-11s %s\n", family, c); err != nil {
			return err
		}
	}
	return nil
}

// finish prints the counts: after the verdicts, or on standard error if these are JSON. It is an error if a scenario
// failed or if none ran.
func (t *tally) finish(stderr io.Writer, h events.Header) error {
	to, next := t.out, "to trace the whole machine: sudo ./closetrace\n"
	switch {
	case t.json:
		to, next = stderr, ""
	case t.brief:
		next = howToGoOn
		if err := t.printFamilies(); err != nil {
			return pipeline.OutputFailure(err)
		}
	}
	_, err := fmt.Fprintf(to, "%s, by %s on %s\n", &t.counts, h.Attach, h.Kernel)
	switch {
	case err != nil:
		return pipeline.OutputFailure(err)
	case t.failed > 0:
		return hint.ErrReported
	case t.passed == 0:
		return errors.New("no scenario could be run")
	}
	_, err = io.WriteString(t.out, next)
	return pipeline.OutputFailure(err)
}
