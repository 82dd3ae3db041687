// Package explain describes in plain words what each path of an ending means, and the background needed to
// understand it.
//
// paths/ has one text file per path, topics/ one per topic. A file holds the words in every language, and the facts
// that are the same in all of them. shared.txt holds what several pages have in common. answers.txt has a sentence on
// what else people look up: errors, states, counters, options, messages. The package is pure: texts in, text out.
package explain

import (
	"cmp"
	"embed"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/events"
)

//go:embed shared.txt answers.txt paths/*.txt topics/*.txt
var files embed.FS

const extension = ".txt"

// Page describes one path or topic.
type Page struct {
	// Name is the slug of the path, or the name of the topic.
	Name string
	// Functions are the kernel functions that take the path, outermost first.
	Functions []string
	// Lab names the scenario that provokes the path, "" if there is none.
	Lab string
	// Info is the path's row in the table of paths. It has no properties if the page is a topic.
	Info *events.PathInfo
	// RFCs that require or describe the path, each with its section.
	RFCs []string
	// See lists topics for further reading.
	See []string

	sections map[string]string
}

// Topic reports whether the page is a topic and not a path.
func (p *Page) Topic() bool { return p.sections["en.text"] != "" }

// Title returns the subject of the page in half a sentence.
func (p *Page) Title(l Language) string { return p.text(l, "title") }

// Sends returns which segments this side sends.
func (p *Page) Sends(l Language) string { return p.text(l, "sends") }

// NoLab returns the reason why no scenario provokes the path, "" if one does.
func (p *Page) NoLab(l Language) string { return p.text(l, "nolab") }

// Command returns an experiment of a topic as it is printed, "" if the topic has none of that name.
func (p *Page) Command(name string) string { return p.sections["run."+name] }

// Commands returns the names of the experiments of a topic, sorted.
func (p *Page) Commands() []string {
	var names []string
	for section := range p.sections {
		if name, ok := strings.CutPrefix(section, "run."); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (p *Page) text(l Language, section string) string { return p.sections[string(l)+"."+section] }

// All returns the pages of all paths, sorted by family and name, and those of all topics.
func All() (paths, topics []*Page, err error) {
	if paths, err = load("paths"); err != nil {
		return nil, nil, err
	}
	families := events.Families()
	slices.SortFunc(paths, func(a, b *Page) int {
		order := slices.Index(families, a.family()) - slices.Index(families, b.family())
		return cmp.Or(order, strings.Compare(a.Name, b.Name))
	})
	topics, err = load("topics")
	return paths, topics, err
}

func (p *Page) family() string { return events.Path(p.Name).Family() }

func load(dir string) ([]*Page, error) {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		return nil, err
	}
	var pages []*Page
	for _, e := range entries {
		data, err := files.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		p, err := parsePage(dir, strings.TrimSuffix(e.Name(), extension), string(data))
		if err != nil {
			return nil, err
		}
		pages = append(pages, p)
	}
	return pages, nil
}
