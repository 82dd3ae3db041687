package test

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/record"
)

// docs/filters.md has the rule of --errors, and which paths of the recorded scenarios it matches.
func TestErrorsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/filters.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, why := range events.AbnormalReasons() {
		if !strings.Contains(string(text), "\n- "+why+"\n") {
			t.Errorf("docs/filters.md lacks: %s", why)
		}
	}
	_, list, _ := strings.Cut(string(text), "never abnormal:")
	documented := map[string]bool{}
	for _, path := range regexp.MustCompile("`([a-z0-9.-]+)`").FindAllStringSubmatch(list, -1) {
		documented[path[1]] = true
	}
	isError := recordedErrors(t)
	for path, is := range isError {
		if is == documented[string(path)] {
			t.Errorf("%s is abnormal: %v; docs/filters.md differs", path, is)
		}
	}
	for path := range documented {
		if _, ok := isError[events.Path(path)]; !ok {
			t.Errorf("docs/filters.md names %s, of which there is no scenario", path)
		}
	}
}

// The rule of --errors agrees with what closetrace explain says: what is
// harmless is no error, and what is not is one.
func TestErrorsAreExplained(t *testing.T) {
	pages, _, err := explain.All()
	if err != nil {
		t.Fatal(err)
	}
	isError := recordedErrors(t)
	for _, p := range pages {
		is, recorded := isError[events.Path(p.Name)]
		if recorded && (is && p.Info.Harmless == events.Yes || !is && p.Info.Harmless == events.No) {
			t.Errorf("%s is an error: %v; harmless: %s", p.Name, is, p.Info.Harmless)
		}
	}
}

// recordedErrors reports for each path of the scenarios whether --errors ever matches it.
func recordedErrors(t *testing.T) map[events.Path]bool {
	t.Helper()
	is := map[events.Path]bool{}
	recordedEndings(t, func(e *events.Ending) { is[e.Path] = is[e.Path] || e.IsAbnormal() })
	return is
}

// recordedEndings are those of all scenarios, in all attach modes.
func recordedEndings(t *testing.T, add func(*events.Ending)) {
	t.Helper()
	for _, section := range recordings(t) {
		r, err := record.NewReader(bytes.NewReader(section))
		if err != nil {
			t.Fatal(err)
		}
		c := classify.New(r.Header)
		for ev, err := range r.Events() {
			if err != nil {
				t.Fatal(err)
			}
			c.Push(ev, add)
		}
		c.Flush(add)
	}
}
