package test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
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
		yellow[e.Path] = yellow[e.Path] || filter.SeverityOf(e) == filter.Notable
	})
	for path, is := range yellow {
		if is != documented[path] {
			t.Errorf("%s may be yellow: %v; docs/terminal.md says otherwise", path, is)
		}
	}
	for path := range documented {
		if _, ok := yellow[path]; !ok {
			t.Errorf("docs/terminal.md names %s, of which there is no scenario", path)
		}
	}
}
