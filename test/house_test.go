// Package test holds what concerns the house as a whole: who may import whom,
// that documents, rules and scenarios agree, and the replay of the scenarios.
package test

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/lab"
)

const module = "github.com/closetrace/closetrace/"

// mayImport is the plan of docs/architecture.md: what each room may import of
// ours, directly or not. Rooms of cmd and test may import all.
var mayImport = map[string][]string{
	"internal/events":   {},
	"internal/kernel":   {},
	"internal/probe":    {"internal/events", "internal/kernel"},
	"internal/enrich":   {"internal/events"},
	"internal/classify": {"internal/events"},
	"internal/record":   {"internal/events"},
	"internal/sink":     {"internal/events"},
	"internal/lab":      {},
}

// onlyIn says which rooms may know a library.
var onlyIn = map[string][]string{
	"github.com/cilium/ebpf":            {"internal/probe", "internal/kernel"},
	"github.com/olekukonko/tablewriter": {"internal/sink"},
	"github.com/spf13/cobra":            {},
	"github.com/rogpeppe/go-internal":   {"internal/lab"},
	"github.com/cavaliergopher/cpio":    {},
}

func TestArrows(t *testing.T) {
	for room, allowed := range mayImport {
		out, err := exec.Command("go", "list", "-deps", module+room).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", room, err)
		}
		for dep := range strings.Lines(string(out)) {
			dep = strings.TrimSpace(dep)
			if ours, ok := strings.CutPrefix(dep, module); ok && ours != room && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s", room, ours)
			}
			for library, rooms := range onlyIn {
				if (dep == library || strings.HasPrefix(dep, library+"/")) && !slices.Contains(rooms, room) {
					t.Errorf("%s imports %s", room, dep)
				}
			}
		}
	}
	rooms, err := os.ReadDir("../internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range rooms {
		if _, ok := mayImport["internal/"+room.Name()]; !ok {
			t.Errorf("internal/%s is not in the plan", room.Name())
		}
	}
}

// The rules, the table of docs/paths.md and the scenarios name the same paths.
func TestPathsAgree(t *testing.T) {
	text, err := os.ReadFile("../docs/paths.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{} // path: whether it has a scenario
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9.-]+)` \\|.*\\| (yes|no: [^|]+) \\|$").FindAllStringSubmatch(string(text), -1) {
		documented[row[1]] = row[2] == "yes"
	}
	scenarios, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	provoked := map[string]bool{}
	for _, sc := range scenarios {
		for _, e := range sc.Endings {
			provoked[e.Path] = true
		}
	}
	paths := map[string]bool{}
	for _, p := range classify.Paths() {
		path := string(p.Path)
		paths[path] = true
		if has, ok := documented[path]; !ok {
			t.Errorf("docs/paths.md has no row for %s", path)
		} else if has != provoked[path] {
			t.Errorf("docs/paths.md says of a scenario for %s: %v, the lab: %v", path, has, provoked[path])
		}
	}
	for path := range documented {
		if !paths[path] {
			t.Errorf("docs/paths.md has %s, which no rule gives", path)
		}
	}
	for path := range provoked {
		if !paths[path] {
			t.Errorf("a scenario expects %s, which no rule gives", path)
		}
	}
}
