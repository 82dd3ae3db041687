// Package test checks the project as a whole: which package imports which,
// that documents, rules and scenarios agree, and the replay of the scenarios.
package test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

const module = "github.com/closetrace/closetrace/"

// plannedPackage is one row of the plan.
type plannedPackage struct {
	path    string
	purpose string   // its line in the map of gen.go
	imports []string // the packages of internal/ that it imports directly, sorted
}

// plan lists the packages of internal/, from the facts to the commands.
// Packages in cmd and test may import all of them.
var plan = []plannedPackage{
	{"events", "Event (a fact), Ending (a conclusion), the table of paths", nil},
	{"terminal", "hides the type of the terminal until main", nil},
	{"hint", "errors with a hint, and their exit codes", nil},
	{"regular", "opens regular files of users, without blocking", nil},
	{"outfile", "opens files to write to, which are none of those that are read", []string{"hint"}},
	{"rights", "opens files with the rights of the user, drops the others", nil},
	{"kernel", "facts about the running kernel", []string{"hint", "rights"}},
	{"netns", "network namespaces: find, enter, read counters", []string{"events", "hint", "rights"}},
	{"sockets", "open sockets, who holds them and how old they are", []string{"events", "hint", "kernel", "netns"}},
	{"rawevent", "decodes records of the kernel side, also recorded ones", []string{"events", "hint"}},
	{"probe", "loads the BPF programs, attaches them, reads their records",
		[]string{"events", "hint", "kernel", "rawevent", "sockets"}},
	{"symbols", "names functions of untrusted files, in a process without privileges", nil},
	{"enrich", "looks up cgroups and the holders of a socket", []string{"events", "hint", "sockets", "symbols"}},
	{"runtimes", "asks container runtimes for names", []string{"events", "hint", "rights"}},
	{"record", "writes and reads recordings of events", []string{"events", "hint", "outfile"}},
	{"classify", "concludes endings from events: one table of rules", []string{"events"}},
	{"bothends", "finds both ends of connections in recordings of several hosts", []string{"events"}},
	{"filter", "selects endings", []string{"events"}},
	{"plan", "decides what the kernel side only counts", []string{"events", "filter", "hint"}},
	{"stuck", "diagnoses sockets that do not close", []string{"events", "filter", "sockets"}},
	{"sink/table", "lays out tables that are complete", nil},
	{"sink", "prints endings: table, JSON lines, summary, audit",
		[]string{"events", "sink/table", "sockets", "stuck"}},
	{"check", "finds out what can be traced on this machine", []string{"events", "kernel", "probe", "sink", "sink/table"}},
	{"message", "prints errors and log records", []string{"hint", "sink"}},
	{"explain/sentence", "says in Chinese what closetrace says in English", []string{"sink/table"}},
	{"ladder", "draws what both ends of a connection did", []string{"events", "sink", "sink/table"}},
	{"top", "counts endings in groups", []string{"events"}},
	{"top/screen", "shows the groups on a full screen", []string{"events", "sink", "top"}},
	{"explain", "describes each path in English and Chinese", []string{"events", "explain/sentence", "ladder", "sink/table"}},
	{"logline", "finds the ends of a connection in a line of a log", nil},
	{"why", "finds the endings of one connection and says why it ended",
		[]string{"events", "explain", "ladder", "logline", "sink", "sink/table"}},
	{"report", "makes a page of recordings, to hand over", []string{"events", "explain", "ladder", "sink", "why"}},
	{"version", "says which build this is", nil},
	{"schema", "has the JSON Schema of an ending", nil},
	{"stdio", "says what the standard streams are connected to", nil},
	{"pipeline", "runs events from a source to the sinks",
		[]string{"bothends", "classify", "events", "filter", "hint", "outfile", "rawevent", "record", "rights", "sink",
			"stdio"}},
	{"live", "traces this machine: attaches, looks up, audits",
		[]string{"enrich", "events", "kernel", "netns", "pipeline", "probe", "runtimes", "sink"}},
	{"capture", "reads packet captures and copies them with comments", []string{"hint"}},
	{"capture/capturetest", "takes the comments out of a capture, for tests", nil},
	{"annotate", "finds the endings of the FINs and RSTs in a capture",
		[]string{"capture", "events", "hint", "ladder", "pipeline", "rawevent", "record", "sink"}},
	{"flagvalue", "parses the values of flags", []string{"events", "explain", "filter", "hint"}},
	{"config", "sets flags from a YAML file", []string{"flagvalue", "hint", "regular"}},
	{"command", "runs a command in a cgroup and finds its endings", []string{"enrich", "events", "filter", "hint"}},
	{"metrics", "counts endings for Prometheus", []string{"events"}},
	{"anonymize", "replaces addresses and names by keyed hashes", []string{"hint", "regular"}},
	{"otlp", "sends endings to a collector of OpenTelemetry", []string{"anonymize", "events", "hint", "version"}},
	{"serve", "traces as a service and answers HTTP requests",
		[]string{"events", "hint", "kernel", "live", "metrics", "pipeline", "probe", "sink", "sockets", "stuck"}},
	{"lab", "provokes every path with real sockets", []string{"netns"}},
	{"labrun", "traces the lab and judges what was reported",
		[]string{"events", "hint", "lab", "ladder", "pipeline", "rights", "sink", "sink/table", "sockets", "stuck"}},
}

// onlyIn lists which packages may import a library. Others may still import
// those packages.
var onlyIn = map[string][]string{
	"github.com/cilium/ebpf":            {"internal/kernel", "internal/probe"},
	"github.com/vishvananda/netlink":    {"internal/sockets"},
	"github.com/google/nftables":        {"internal/lab"},
	"github.com/olekukonko/tablewriter": {"internal/sink", "internal/sink/table"},
	"github.com/klauspost/compress":     {"internal/record"},
	"net/http":                          {"internal/metrics", "internal/otlp", "internal/runtimes", "internal/serve"},
	"github.com/prometheus":             {"internal/metrics"},
	"github.com/coreos/go-systemd/v22":  {"internal/serve"},
	"go.opentelemetry.io":               {"internal/otlp"},
	"github.com/go-json-experiment":     {"internal/otlp"},
	"go.yaml.in/yaml/v4":                {"internal/config"},
	"google.golang.org/protobuf":        {"internal/metrics", "internal/otlp", "internal/runtimes"},
	"github.com/spf13/cobra":            {"cmd/closetrace"},
	"charm.land/bubbletea/v2":           {"internal/top/screen"},
	"charm.land/bubbles/v2":             {"internal/top/screen"},
	"charm.land/lipgloss/v2":            {"internal/top/screen"},

	"kernel.org/pub/linux/libs/security/libcap": {"internal/kernel", "internal/probe", "internal/rights"},
	"github.com/rogpeppe/go-internal":           {"internal/lab"},
	"github.com/cavaliergopher/cpio":            {},
	"github.com/gopacket/gopacket":              {},
	"github.com/santhosh-tekuri/jsonschema/v6":  {},
}

// Each package of internal/ imports exactly what the plan lists, and no library
// that is reserved for others. What it reaches through another package of
// closetrace does not count.
func TestImports(t *testing.T) {
	planned := map[string][]string{}
	for _, row := range plan {
		planned["internal/"+row.path] = row.imports
	}
	for _, pkg := range load(t, packages.NeedName|packages.NeedImports|packages.NeedDeps, "./internal/...", "./cmd/...") {
		name := strings.TrimPrefix(pkg.PkgPath, module)
		var imported []string
		for _, path := range reached(pkg) {
			if ours, ok := strings.CutPrefix(path, module+"internal/"); ok {
				imported = append(imported, ours)
			}
			for library, users := range onlyIn {
				if (path == library || strings.HasPrefix(path, library+"/")) && !slices.Contains(users, name) {
					t.Errorf("%s imports %s", name, path)
				}
			}
		}
		want, isPlanned := planned[name]
		switch slices.Sort(imported); {
		case strings.HasPrefix(name, "cmd/"): // may import all
		case !isPlanned:
			t.Errorf("%s is not in the plan", name)
		case !slices.Equal(imported, want):
			t.Errorf("%s imports %q, in the plan %q", name, imported, want)
		}
		delete(planned, name)
	}
	for name := range planned {
		t.Errorf("%s is in the plan and does not exist", name)
	}
}

// The plan has no circle: each package imports only those of the rows above it.
func TestPlanIsSorted(t *testing.T) {
	var above []string
	for _, row := range plan {
		for _, imported := range row.imports {
			if !slices.Contains(above, imported) {
				t.Errorf("%s imports %s, which is not above it", row.path, imported)
			}
		}
		above = append(above, row.path)
	}
}

// The map in gen.go has one line for each package of the plan, in its order.
func TestMapOfPackages(t *testing.T) {
	text, err := os.ReadFile("../gen.go")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for line := range strings.Lines(string(text)) {
		if entry, ok := strings.CutPrefix(line, "//\tinternal/"); ok {
			path, purpose, _ := strings.Cut(entry, " ")
			got = append(got, path+": "+strings.TrimSpace(purpose))
		}
	}
	for _, row := range plan {
		want = append(want, row.path+": "+row.purpose)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the map in gen.go lists\n\t%s\nand the plan\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// load loads packages of this module, without their tests.
func load(t *testing.T, mode packages.LoadMode, patterns ...string) []*packages.Package {
	t.Helper()
	loaded, err := packages.Load(&packages.Config{Mode: mode, Dir: ".."}, patterns...)
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range loaded {
		for _, err := range pkg.Errors {
			t.Fatal(err)
		}
	}
	return loaded
}

// reached returns what a package imports, directly or through libraries. It
// stops at packages of closetrace.
func reached(pkg *packages.Package) []string {
	var paths []string
	var visit func(*packages.Package)
	visit = func(p *packages.Package) {
		for path, imported := range p.Imports {
			if slices.Contains(paths, path) {
				continue
			}
			paths = append(paths, path)
			if !strings.HasPrefix(path, module) {
				visit(imported)
			}
		}
	}
	visit(pkg)
	return paths
}
