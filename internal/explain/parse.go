package explain

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// The form of a file: lines "key: value", then sections that each begin with
// "-- name --". A section of words is named after its language, as en.title. A
// line "@name" of a section stands for another section: one of this file or
// else of shared.txt; where that is one of words, it is named without its
// language.

// sectionsOfPaths must stand in the file of each path; those in wordsOfPaths in
// each language.
var (
	sectionsOfPaths = []string{"chain", "wire"}
	wordsOfPaths    = []string{"title", "sends", "what", "condition", "here", "peer", "harmless", "avoid"}
	wordsOfTopics   = []string{"title", "text"}
	// optional words: the reason why there is no scenario, and for the kernel's
	// reason where its name misleads.
	optional = []string{"nolab", "reason"}
)

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

// readPage reads headers and sections.
func readPage(name, data string) (*Page, error) {
	head, sections, err := split(data)
	if err != nil {
		return nil, err
	}
	p := &Page{Name: name, sections: sections}
	for line := range strings.Lines(head) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			return nil, fmt.Errorf("%q is not a line of the form key: value", strings.TrimSpace(line))
		}
		if err := p.set(key, strings.TrimSpace(value)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// split cuts a file into its head and its sections, without empty lines at
// their ends.
func split(data string) (head string, sections map[string]string, err error) {
	sections = map[string]string{}
	current := ""
	for line := range strings.Lines(data) {
		name, is := strings.CutPrefix(strings.TrimSpace(line), "-- ")
		name, ends := strings.CutSuffix(name, " --")
		switch _, twice := sections[name]; {
		case is && ends && twice:
			return "", nil, fmt.Errorf("a second section %q", name)
		case is && ends:
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

func (p *Page) set(key, value string) error {
	list := strings.Split(value, ", ")
	switch key {
	case "functions":
		p.Functions = strings.Split(value, " > ")
	case "lab":
		p.Lab = value
	case "reason":
		for _, r := range list {
			name, since, ok := strings.Cut(r, " ")
			if !ok {
				return fmt.Errorf("reason %q has no version", r)
			}
			p.Reasons = append(p.Reasons, Reason{name, since})
		}
	case "counters":
		p.Counters = list
	case "harmless":
		p.Harmless = value
	case "rfc":
		p.RFCs = list
	case "see":
		p.See = list
	default:
		return fmt.Errorf("unknown key %q", key)
	}
	return nil
}

// shared is what several pages say alike.
var shared = sync.OnceValues(func() (map[string]string, error) {
	data, err := files.ReadFile("shared" + extension)
	if err != nil {
		return nil, err
	}
	_, sections, err := split(string(data))
	return sections, err
})

// include puts other sections where a line "@name" asks for them.
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
				return fmt.Errorf("section %s wants @%s, which is nowhere", section, name)
			}
			b.WriteString(other + "\n")
		}
		p.sections[section] = strings.TrimRight(b.String(), "\n")
	}
	return nil
}

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

// check finds what is missing, and what is not known.
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

func (p *Page) checkPath() error {
	if !slices.Contains(Families, p.family()) {
		return fmt.Errorf("unknown family %q", p.family())
	}
	if len(p.Functions) == 0 || len(p.RFCs) == 0 {
		return errors.New("functions and rfc must not be empty")
	}
	if !slices.Contains([]string{"yes", "no", "depends"}, p.Harmless) {
		return fmt.Errorf("harmless: %q is none of yes, no, depends", p.Harmless)
	}
	for _, l := range Languages {
		if (p.Lab == "") != (p.NoLab(l) != "") {
			return fmt.Errorf("either a scenario, or section %s.nolab that says why there is none", l)
		}
	}
	for _, f := range p.Functions {
		if !strings.Contains(p.sections["chain"], f) {
			return fmt.Errorf("%s decides, but does not stand in the chain", f)
		}
	}
	if !strings.Contains(p.sections["chain"], "if ") {
		return errors.New("the chain has no condition")
	}
	_, err := parseWire(p.sections["wire"])
	return err
}
