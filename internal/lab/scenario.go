package lab

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// Modes are the attach modes that a scenario can name.
var Modes = []string{"fentry", "kprobe", "tracepoint"}

// Scenario is one way for a connection to end: how to provoke it, and which
// endings must be seen.
type Scenario struct {
	// Name is the file's name: a slug, or a slug, "_" and a variant.
	Name string
	// Title is one sentence: the first line of the file's comment.
	Title string
	// Notes is the rest of the comment, without the headers.
	Notes []string
	// Family says which addresses connect the sockets.
	Family Family
	// Families are the families of endings that Endings lists completely: the
	// header "families:", or else the package's Families.
	Families []string
	// Needs are the conditions without which the scenario cannot be provoked.
	Needs []string
	Steps []Step
	// Endings are all endings of this scenario, in no particular order.
	Endings []Expectation
	// Counters are the kernel counters that the steps move.
	Counters []CounterWant
	// Stuck are the sockets that are stuck after the last step, if the scenario is
	// about them.
	Stuck []StuckWant
	// Unseen gives, for an attach mode that cannot see this scenario's
	// endings, the reason. In that mode only the endings whose line names
	// the mode are expected.
	Unseen map[string]string

	archive *txtar.Archive
}

// Family says which addresses a scenario's sockets use.
type Family string

// The families of the header "family:".
const (
	IPv4     Family = "ipv4"     // 127.0.0.1
	IPv6     Family = "ipv6"     // ::1
	V4Mapped Family = "v4mapped" // ::ffff:127.0.0.1 on AF_INET6 sockets
)

// Parse reads a scenario from the text of its file. Errors begin with the
// file's name and line.
func Parse(name string, data []byte) (*Scenario, error) {
	n := 0
	for text := range bytes.Lines(data) {
		n++
		if string(bytes.TrimRight(text, "\r\n")) == "-- --" { // txtar panics on it
			return nil, fmt.Errorf("%s%s:%d: a section without a name", name, extension, n)
		}
	}
	sc := &Scenario{Name: name, Family: IPv4, Families: Families, Unseen: map[string]string{}, archive: txtar.Parse(data)}
	if err := sc.parseComment(); err != nil {
		return nil, fmt.Errorf("%s%s: %w", name, extension, err)
	}
	line := 1 + bytes.Count(sc.archive.Comment, []byte("\n"))
	seen := map[string]bool{}
	for _, f := range sc.archive.Files {
		if seen[f.Name] {
			return nil, fmt.Errorf("%s%s:%d: a second section %q", name, extension, line, f.Name)
		}
		seen[f.Name] = true
		if err := sc.parseSection(f.Name, string(f.Data), line+1); err != nil {
			return nil, fmt.Errorf("%s%s:%w", name, extension, err)
		}
		line += 1 + bytes.Count(f.Data, []byte("\n"))
	}
	if !seen["steps"] || !seen["endings"] {
		return nil, fmt.Errorf("%s%s: needs the sections steps and endings", name, extension)
	}
	return sc, nil
}

// parseComment reads title, notes and headers. A "#" before each is allowed.
func (sc *Scenario) parseComment() error {
	for text := range strings.Lines(string(sc.archive.Comment)) {
		text = strings.TrimSpace(strings.TrimLeft(text, "# "))
		key, value, _ := strings.Cut(text, ":")
		value = strings.TrimSpace(value)
		switch {
		case text == "":
		case key == "needs":
			for need := range strings.SplitSeq(value, ",") {
				sc.Needs = append(sc.Needs, strings.TrimSpace(need))
			}
		case key == "family":
			sc.Family = Family(value)
			if !slices.Contains([]Family{IPv4, IPv6, V4Mapped}, sc.Family) {
				return fmt.Errorf("unknown family %q", value)
			}
		case key == "families":
			sc.Families = strings.Fields(value)
		case sc.Title == "":
			sc.Title = text
		default:
			sc.Notes = append(sc.Notes, text)
		}
	}
	if len(sc.Families) == 0 {
		return errors.New("families: no family listed")
	}
	if sc.Title == "" {
		return errors.New("no title: the first line must be a sentence")
	}
	return nil
}

// parseSection reads one section whose text starts at the given line. Unknown
// sections are kept as they are.
func (sc *Scenario) parseSection(section, data string, line int) error {
	if mode, ok := strings.CutPrefix(section, "unseen."); ok {
		reason := strings.TrimSpace(data)
		if !slices.Contains(Modes, mode) || reason == "" {
			return fmt.Errorf("%d: unseen.MODE needs one of the modes %v and a reason", line, Modes)
		}
		sc.Unseen[mode] = reason
		return nil
	}
	parse := map[string]func(string, int) error{
		"steps":    sc.addStep,
		"endings":  sc.addEnding,
		"counters": sc.addCounter,
		"stuck":    sc.addStuck,
	}[section]
	if parse == nil {
		return nil
	}
	for text := range strings.Lines(data) {
		text = strings.TrimSpace(text)
		if text != "" && !strings.HasPrefix(text, "#") {
			if err := parse(text, line); err != nil {
				return fmt.Errorf("%d: %w", line, err)
			}
		}
		line++
	}
	return nil
}

func (sc *Scenario) addStep(text string, line int) error {
	st, err := parseStep(text, line)
	sc.Steps = append(sc.Steps, st)
	return err
}

func (sc *Scenario) addEnding(text string, line int) error {
	e, err := parseExpectation(text, line)
	sc.Endings = append(sc.Endings, e)
	if err == nil && !sc.Compares(e.Path) {
		return fmt.Errorf("%s is of none of the families compared: %s", e.Path, strings.Join(sc.Families, " "))
	}
	return err
}

func (sc *Scenario) addCounter(text string, line int) error {
	c, err := parseCounterWant(text, line)
	sc.Counters = append(sc.Counters, c)
	return err
}

func (sc *Scenario) addStuck(text string, line int) error {
	w, err := parseStuckWant(text, line)
	sc.Stuck = append(sc.Stuck, w)
	return err
}

// ChangesMachine reports whether the scenario changes a setting of the whole machine while it runs, which also acts on
// the connections of other programs.
func (sc *Scenario) ChangesMachine() bool {
	return slices.ContainsFunc(sc.Steps, func(st Step) bool { return st.Verb == "global" })
}

// Alone reports whether the scenario must run without others at the same time. It
// changes a setting of the whole machine; or it starts a process, which for a
// moment holds copies of all descriptors, so a close(2) in another scenario would
// not be the last; or it blocks a close(2) by SO_LINGER, of which kretprobes
// follow only a few at a time.
func (sc *Scenario) Alone() bool {
	return sc.ChangesMachine() || slices.ContainsFunc(sc.Steps, func(st Step) bool {
		switch st.Verb {
		case "spawn":
			return true
		case "linger":
			return len(st.Args) == 2 && st.Args[1] != "0"
		}
		return false
	})
}

// Expected returns the endings that must be seen in this attach mode.
func (sc *Scenario) Expected(mode string) []Expectation {
	_, unseen := sc.Unseen[mode]
	var want []Expectation
	for _, e := range sc.Endings {
		if slices.Contains(e.Modes, mode) || len(e.Modes) == 0 && !unseen {
			want = append(want, e)
		}
	}
	return want
}

// Counting returns the scenario as it is for a tracer that only counts the ordinary endings of some paths: those may be
// missing. Abnormal endings, such as the close by a process that was killed, may not.
func (sc *Scenario) Counting(paths ...string) *Scenario {
	counting := *sc
	counting.Endings = slices.Clone(sc.Endings)
	for i := range counting.Endings {
		e := &counting.Endings[i]
		if slices.Contains(paths, e.Path) && !e.wants("abnormal", "true") && !e.wants("trigger", "signal") {
			e.May = Modes
		}
	}
	return &counting
}

// wants reports whether a field must have a value.
func (e *Expectation) wants(key, value string) bool {
	return slices.Contains(e.Fields, FieldWant{key, value})
}

// Section returns a section's text, and whether the file has it.
func (sc *Scenario) Section(name string) ([]byte, bool) {
	for _, f := range sc.archive.Files {
		if f.Name == name {
			return f.Data, true
		}
	}
	return nil, false
}

// Sections returns the names of all sections, sorted.
func (sc *Scenario) Sections() []string {
	names := map[string]bool{}
	for _, f := range sc.archive.Files {
		names[f.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// SetSection replaces a section that the parser does not interpret, such as
// events.fentry.jsonl, or adds it at the end. Empty data removes it.
func (sc *Scenario) SetSection(name string, data []byte) {
	files := slices.DeleteFunc(slices.Clone(sc.archive.Files), func(f txtar.File) bool {
		return f.Name == name && len(data) == 0
	})
	i := slices.IndexFunc(files, func(f txtar.File) bool { return f.Name == name })
	switch {
	case len(data) == 0:
	case i >= 0:
		files[i].Data = slices.Clone(data)
	default:
		files = append(files, txtar.File{Name: name, Data: slices.Clone(data)})
	}
	sc.archive.Files = files
}

// Render returns the text of the scenario's file, with its sections as they
// are now.
func (sc *Scenario) Render() []byte { return txtar.Format(sc.archive) }

// Save writes the scenario's file into a directory.
func (sc *Scenario) Save(dir string) error {
	return os.WriteFile(filepath.Join(dir, sc.Name+extension), sc.Render(), 0o644)
}
