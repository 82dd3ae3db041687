package test

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/lab"
)

var update = flag.Bool("update", false, "rewrite the table of docs/paths.md")

func explained(t *testing.T) (paths, topics []*explain.Page) {
	t.Helper()
	paths, topics, err := explain.All()
	if err != nil {
		t.Fatal(err)
	}
	return paths, topics
}

// The table of paths, the rules, the explanations and the scenarios name the same paths.
func TestPathsAgree(t *testing.T) {
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
	listed := map[events.Path]bool{}
	for _, p := range events.Paths() {
		listed[p.Path] = true
	}
	concluded := map[string]bool{}
	for _, p := range classify.Paths() {
		concluded[string(p)] = true
		if !listed[p] {
			t.Errorf("a rule concludes %s, which is not in the table of paths", p)
		}
		delete(listed, p)
	}
	for path := range listed {
		t.Errorf("the table of paths has %s, which no rule concludes", path)
	}
	described := map[string]bool{}
	paths, _ := explained(t)
	for _, p := range paths {
		described[p.Name] = true
		if !concluded[p.Name] {
			t.Errorf("internal/explain has %s, which no rule concludes", p.Name)
		}
		if p.Lab == "" && provoked[p.Name] {
			t.Errorf("%s has no scenario in internal/explain, but the lab provokes it", p.Name)
		}
	}
	for path := range concluded {
		if !described[path] {
			t.Errorf("internal/explain does not explain %s", path)
		}
	}
	for path := range provoked {
		if !concluded[path] {
			t.Errorf("a scenario expects %s, which no rule concludes", path)
		}
	}
}

// The scenario that an explanation names provokes that path.
func TestExplainedScenarios(t *testing.T) {
	paths, _ := explained(t)
	for _, p := range paths {
		if p.Lab == "" {
			continue
		}
		sc, err := lab.Find(p.Lab)
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		if !slices.ContainsFunc(sc.Endings, func(e lab.Expectation) bool { return e.Path == p.Name }) {
			t.Errorf("%s: the scenario %s expects other paths", p.Name, p.Lab)
		}
	}
}

// What the lab expects on the wire, and the reasons that kernels gave when the
// scenarios were recorded, are those of the explanations.
func TestExplainedSegments(t *testing.T) {
	scenarios, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	paths, _ := explained(t)
	page := map[string]*explain.Page{}
	for _, p := range paths {
		page[p.Name] = p
	}
	for _, sc := range scenarios {
		for _, e := range sc.Endings {
			for _, f := range e.Fields {
				segment := map[string]string{"rst": "RST", "fin": "FIN"}[f.Key]
				if segment == "" || f.Value != "true" {
					continue
				}
				for _, l := range explain.Languages {
					if p := page[e.Path]; p != nil && !strings.Contains(p.Sends(l), segment) {
						t.Errorf("%s sends %q in %s, but %s sees %s", e.Path, p.Sends(l), l, sc.Name, segment)
					}
				}
			}
		}
		for _, mode := range lab.Modes {
			section, ok := sc.Section("events." + mode + ".jsonl")
			if !ok {
				continue
			}
			for _, got := range reasons(t, section) {
				p := page[got.path]
				if p != nil && !slices.ContainsFunc(p.Info.Reasons, func(r events.Reason) bool { return r.Name == got.reason }) {
					t.Errorf("%s: the kernel's reason is %s in the recording of %s", got.path, got.reason, sc.Name)
				}
			}
		}
	}
}

type pathReason struct{ path, reason string }

// reasons are those that the kernel gave for the endings of a recording.
func reasons(t *testing.T, text []byte) (all []pathReason) {
	header, _, recorded := recording(t, text)
	c := classify.New(header)
	keep := func(e *events.Ending) {
		if e.KernelReason != "" {
			all = append(all, pathReason{string(e.Path), e.KernelReason})
		}
	}
	for _, ev := range recorded {
		c.Push(&ev, keep)
	}
	c.Flush(keep)
	return all
}

var (
	mention    = regexp.MustCompile(`\b(?:` + strings.Join(events.Families(), "|") + `)\.[a-z0-9][a-z0-9.*_-]*[a-z0-9*]`)
	labCommand = regexp.MustCompile(`closetrace lab ([a-z][^\n]*)`)
)

// What an explanation mentions exists: paths, scenarios, topics.
func TestMentionsExist(t *testing.T) {
	paths, topics := explained(t)
	names := map[string]bool{}
	for _, p := range append(paths, topics...) {
		names[p.Name] = true
	}
	exists := func(name string) bool {
		_, err := lab.Find(name)
		return err == nil || names[name] || strings.HasSuffix(name, ".*")
	}
	for _, p := range append(paths, topics...) {
		for _, topic := range p.See {
			if !names[topic] || topic == p.Name {
				t.Errorf("%s: see %s?", p.Name, topic)
			}
		}
		for _, l := range explain.Languages {
			text := p.Text(explain.Layout{Language: l})
			for _, name := range mention.FindAllString(text, -1) {
				if !exists(name) {
					t.Errorf("%s mentions %s, which is no path and no scenario", p.Name, name)
				}
			}
			for _, command := range labCommand.FindAllStringSubmatch(text, -1) {
				for name := range strings.FieldsSeq(command[1]) {
					if _, err := lab.Find(name); err != nil {
						t.Errorf("%s: %v", p.Name, err)
					}
				}
			}
		}
	}
}

const (
	pathsDoc   = "../docs/paths.md"
	tableBegin = "<!-- The table comes from internal/explain: go test ./test -run TestPathsDoc -update -->\n"
	tableEnd   = "<!-- end of the table -->\n"
)

// docs/paths.md has the table that the explanations give.
func TestPathsDoc(t *testing.T) {
	doc, err := os.ReadFile(pathsDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(doc), tableBegin)
	_, after, ends := strings.Cut(rest, tableEnd)
	if !begins || !ends {
		t.Fatalf("%s lacks the lines around its table", pathsDoc)
	}
	want := []byte(before + tableBegin + pathsTable(t) + tableEnd + after)
	if *update {
		if err := os.WriteFile(pathsDoc, want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(doc, want) {
		t.Errorf("%s differs from internal/explain: go test ./test -run TestPathsDoc -update", pathsDoc)
	}
}

func pathsTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| path | what happens | decided in | on the wire | scenario |\n|---|---|---|---|---|\n")
	paths, _ := explained(t)
	for _, p := range paths {
		scenario := "yes"
		if p.Lab == "" {
			scenario = "no: " + strings.TrimSuffix(strings.TrimPrefix(p.NoLab(explain.English), "No scenario: "), ".")
		}
		cells := []string{
			"`" + p.Name + "`", p.Title(explain.English), "`" + strings.Join(p.Functions, "` → `") + "`",
			p.Sends(explain.English), scenario,
		}
		b.WriteString("| " + strings.ReplaceAll(strings.Join(cells, " | "), "\n", " ") + " |\n")
	}
	return b.String()
}
