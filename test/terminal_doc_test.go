package test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// docs/terminal.md names the paths of the recorded scenarios that may be yellow.
func TestSeverityIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/terminal.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "may be yellow:")
	list, _, _ = strings.Cut(list, "\n\n")
	documented := map[events.Path]bool{}
	for _, path := range regexp.MustCompile("`([a-z0-9.-]+)`").FindAllStringSubmatch(list, -1) {
		documented[events.Path(path[1])] = true
	}
	yellow := map[events.Path]bool{}
	recordedEndings(t, func(e *events.Ending) {
		yellow[e.Path] = yellow[e.Path] || e.Severity() == events.Notable
	})
	for path, is := range yellow {
		if is != documented[path] {
			t.Errorf("%s may be yellow: %v; docs/terminal.md differs", path, is)
		}
	}
	for path := range documented {
		if _, ok := yellow[path]; !ok {
			t.Errorf("docs/terminal.md names %s, of which there is no scenario", path)
		}
	}
}

// docs/filters.md names the paths that a table may leave out. Of the recorded scenarios these are closes in CLOSE that
// did nothing: no segment was sent or received, and nothing was lost.
func TestEndingsWithoutEffectAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/filters.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "may be left out:")
	list, _, _ = strings.Cut(list, "\n\n")
	documented := map[events.Path]bool{}
	for _, path := range regexp.MustCompile("`([a-z0-9.-]+)`").FindAllStringSubmatch(list, -1) {
		documented[events.Path(path[1])] = true
	}
	found := map[events.Path]bool{}
	recordedEndings(t, func(e *events.Ending) {
		if !e.HasNoEffect() {
			return
		}
		found[e.Path] = true
		if e.Before != events.Close || e.HasFIN() || e.HasRST() || e.Evidence.UnreadBytes > 0 {
			t.Errorf("%s: %s: it has an effect", e.Path, e.Cause)
		}
		if !documented[e.Path] {
			t.Errorf("%s may be left out; docs/filters.md lacks it", e.Path)
		}
	})
	for path := range documented {
		if !found[path] {
			t.Errorf("docs/filters.md names %s, of which no scenario is left out", path)
		}
	}
}
