package test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/lab"
)

// The lab leaves a socket behind for each diagnosis of docs/stuck.md, and for no
// other.
func TestDiagnosesAreProvoked(t *testing.T) {
	text, err := os.ReadFile("../docs/stuck.md")
	if err != nil {
		t.Fatal(err)
	}
	scenarios, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	provoked := map[string]bool{}
	for _, sc := range scenarios {
		for _, w := range sc.Stuck {
			provoked[w.Diagnosis] = true
		}
	}
	_, section, _ := strings.Cut(string(text), "\n## The diagnoses\n")
	section, _, _ = strings.Cut(section, "\n## ")
	pattern := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| [^|]+ \\|$")
	for _, row := range pattern.FindAllStringSubmatch(section, -1) {
		if _, known := provoked[row[1]]; !known {
			t.Errorf("no scenario provokes %s", row[1])
		}
		provoked[row[1]] = false
	}
	for diagnosis, left := range provoked {
		if left {
			t.Errorf("docs/stuck.md has no diagnosis %s", diagnosis)
		}
	}
}
