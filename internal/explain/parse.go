package explain

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/closetrace/closetrace/internal/events"
)

// A file has lines "key: value", then sections that each begin with "-- name --". The name of a section of words begins
// with its language, for example en.title. A line "@name" in a section stands for another section, of this file or of
// shared.txt; a section of words is named there without its language.
var (
	// The file of a path has each of these sections, and each section of words in every language.
	sectionsOfPaths = []string{"chain", "wire"}
	wordsOfPaths    = []string{"title", "sends", "what", "condition", "here", "peer", "harmless", "avoid"}
	wordsOfTopics   = []string{"title", "text"}
	// optional are the reason why there is no scenario, and a remark on the kernel's reason.
	optional = []string{"nolab", "reason"}
)

// parsePage parses a file and checks that it is complete. The error names the file.
func parsePage(dir, name, data string) (*Page, error) {
	p, err := readPage(name, data)
	if err == nil {
		err = p.include()
	}
	if err == nil {
		err = p.check(dir == "topics")
	}
	if err != nil {
		return nil, fmt.Errorf("%s/%s%s: %w", dir, name, extension, err)
	}
	return p, nil
}

// readPage reads the headers and sections of a file.
func readPage(name, data string) (*Page, error) {
	head, sections, err := split(data)
	if err != nil {
		return nil, err
	}
	p := &Page{Name: name, Info: events.Path(name).Info(), sections: sections}
	for line := range strings.Lines(head) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			return nil, fmt.Errorf("%q is not a line of the form key: value", strings.TrimSpace(line))
		}
		if err := p.keys().set(key, strings.TrimSpace(value)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// split cuts a file into its head and its sections, without blank lines around them.
func split(data string) (head string, sections map[string]string, err error) {
	sections = map[string]string{}
	current := ""
	for line := range strings.Lines(data) {
		name, begins := strings.CutPrefix(strings.TrimSpace(line), "-- ")
		name, ends := strings.CutSuffix(name, " --")
		switch _, again := sections[name]; {
		case begins && ends && again:
			return "", nil, fmt.Errorf("a second section %q", name)
		case begins && ends:
			current, sections[name] = name, ""
		case current == "":
			head += line
		default:
			sections[current] += line
		}
	}
	for name, text := range sections {
		sections[name] = strings.Trim(text, "\n")
	}
	return strings.TrimSpace(head), sections, nil
}

// keys returns what assigns the value of each key of the header.
func (p *Page) keys() keys {
	return keys{
		"functions": toList(&p.Functions, " > "), "lab": toText(&p.Lab), "rfc": toList(&p.RFCs, ", "), "see": toList(&p.See, ", "),
	}
}

// keys has for each key of a text of the form "key: value" what assigns its value.
type keys map[string]func(value string)

func (k keys) set(key, value string) error {
	assign, ok := k[key]
	if !ok {
		return fmt.Errorf("unknown key %q", key)
	}
	assign(value)
	return nil
}

func toText(to *string) func(string) { return func(value string) { *to = value } }

func toList(to *[]string, separator string) func(string) {
	return func(value string) { *to = strings.Split(value, separator) }
}

// shared returns the sections of shared.txt.
var shared = sync.OnceValues(func() (map[string]string, error) {
	data, err := files.ReadFile("shared" + extension)
	if err != nil {
		return nil, err
	}
	_, sections, err := split(string(data))
	return sections, err
})

// include replaces each line "@name" with that section.
func (p *Page) include() error {
	common, err := shared()
	if err != nil {
		return err
	}
	for section, text := range p.sections {
		if !strings.Contains(text, "@") {
			continue
		}
		language, _, _ := strings.Cut(section, ".")
		var b strings.Builder
		for line := range strings.Lines(text) {
			name, ok := strings.CutPrefix(strings.TrimSpace(line), "@")
			if !ok {
				b.WriteString(line)
				continue
			}
			other, ok := firstOf(name, language, p.sections, common)
			if !ok {
				return fmt.Errorf("section %s includes @%s, which does not exist", section, name)
			}
			b.WriteString(other + "\n")
		}
		p.sections[section] = strings.TrimRight(b.String(), "\n")
	}
	return nil
}

// firstOf returns the first section that has the name, with or without the language.
func firstOf(name, language string, places ...map[string]string) (string, bool) {
	for _, sections := range places {
		for _, key := range []string{name, language + "." + name} {
			if text, ok := sections[key]; ok {
				return text, true
			}
		}
	}
	return "", false
}

// check returns an error for a section that is missing or unknown.
func (p *Page) check(topic bool) error {
	needed, known := slices.Clone(sectionsOfPaths), slices.Clone(sectionsOfPaths)
	words := wordsOfPaths
	if topic {
		needed, known, words = nil, nil, wordsOfTopics
	}
	for _, l := range Languages {
		for _, w := range words {
			needed = append(needed, string(l)+"."+w)
		}
		for _, w := range optional {
			known = append(known, string(l)+"."+w)
		}
	}
	known = append(known, needed...)
	for _, section := range needed {
		if p.sections[section] == "" {
			return fmt.Errorf("section %s is missing or empty", section)
		}
	}
	for section := range p.sections {
		if !slices.Contains(known, section) && !(topic && strings.HasPrefix(section, "run.")) {
			return fmt.Errorf("unknown section %s", section)
		}
	}
	if topic {
		return nil
	}
	return p.checkPath()
}

// checkPath returns an error for a mistake in the page of a path.
func (p *Page) checkPath() error {
	if p.Info.Path == "" {
		return fmt.Errorf("%s is not in the table of paths", p.Name)
	}
	if len(p.Functions) == 0 || len(p.RFCs) == 0 {
		return errors.New("functions and rfc must not be empty")
	}
	for _, l := range Languages {
		if (p.Lab == "") != (p.NoLab(l) != "") {
			return fmt.Errorf("either header lab or section %s.nolab is needed", l)
		}
	}
	for _, f := range p.Functions {
		if !strings.Contains(p.sections["chain"], f) {
			return fmt.Errorf("function %s is not in the chain", f)
		}
	}
	if !strings.Contains(p.sections["chain"], "if ") {
		return errors.New("the chain has no condition")
	}
	_, err := parseWire(p.sections["wire"])
	return err
}
