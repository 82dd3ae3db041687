// Package test holds what concerns the house as a whole: who may import whom,
// that documents, rules and scenarios agree, and the replay of the scenarios.
package test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/closetrace/closetrace/"

// mayImport is the plan of docs/architecture.md: what each room may import of
// ours, directly or not. Rooms of cmd and test may import all.
var mayImport = map[string][]string{
	"internal/events":   {},
	"internal/kernel":   {},
	"internal/probe":    {"internal/events", "internal/kernel", "internal/stuck"},
	"internal/enrich":   {"internal/events"},
	"internal/classify": {"internal/events"},
	"internal/record":   {"internal/events"},
	"internal/runtimes": {"internal/events"},
	"internal/filter":   {"internal/events"},
	"internal/sink":     {"internal/events", "internal/filter"},
	"internal/stuck":    {"internal/events"},
	"internal/sockets":  {"internal/events", "internal/stuck"},
	"internal/lab":      {},
	"internal/explain":  {"internal/events"},
	"internal/top":      {"internal/events", "internal/filter"},
}

// onlyIn says which rooms may know a library.
var onlyIn = map[string][]string{
	"github.com/cilium/ebpf":            {"internal/probe", "internal/kernel"},
	"github.com/vishvananda/netlink":    {"internal/sockets"},
	"github.com/olekukonko/tablewriter": {"internal/sink"},
	"github.com/klauspost/compress":     {"internal/record"},
	"net/http":                          {"internal/runtimes"},
	"google.golang.org/protobuf":        {"internal/runtimes"},
	"github.com/spf13/cobra":            {},
	"charm.land/bubbletea/v2":           {},
	"charm.land/bubbles/v2":             {},
	"charm.land/lipgloss/v2":            {},

	"kernel.org/pub/linux/libs/security/libcap": {"internal/probe", "internal/kernel"},
	"github.com/rogpeppe/go-internal":           {"internal/lab"},
	"github.com/cavaliergopher/cpio":            {},
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
