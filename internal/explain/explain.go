// Package explain tells in plain words what each path of an ending means, and a
// few things besides that one has to know to understand them.
//
// paths/ has one text file per path, topics/ one per topic; each holds its
// words in every language, beside the facts that are the same in all of them.
// shared.txt holds what several say alike. The package is pure: texts in,
// text out.
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

//go:embed shared.txt paths/*.txt topics/*.txt
var files embed.FS

const extension = ".txt"

// Page explains one path or topic.
type Page struct {
	// Name is that of its file: a slug, or the name of a topic.
	Name string
	// Functions of the kernel decide, the last of them in the end.
	Functions []string
	// Lab is the scenario that provokes the path, "" if there is none.
	Lab string
	// Reasons are those that the kernel gives for its RST.
	Reasons []Reason
	// Counters of the kernel that the path moves.
	Counters []string
	// Harmless is yes, no or depends.
	Harmless string
	// RFCs that ask for it or speak of it, each with its section.
	RFCs []string
	// See are topics to read on.
	See []string

	sections map[string]string
}

// Reason is a name of enum sk_rst_reason without its prefix, and the version of
// Linux that first gave it for this path.
type Reason struct{ Name, Since string }

// Families of paths, in the order in which they are listed.
var Families = []string{"close", "shutdown", "disconnect", "abort", "reply", "recv", "app"}

// Topic tells whether the page is a topic rather than a path.
func (p *Page) Topic() bool { return p.sections["en.text"] != "" }

// Title says in half a sentence what it is about.
func (p *Page) Title(l Language) string { return p.text(l, "title") }

// Sends says which segments leave this side.
func (p *Page) Sends(l Language) string { return p.text(l, "sends") }

// NoLab says why no scenario provokes it.
func (p *Page) NoLab(l Language) string { return p.text(l, "nolab") }

// Command is something to try, as a topic shows it.
func (p *Page) Command(name string) string { return p.sections["run."+name] }

func (p *Page) text(l Language, section string) string { return p.sections[string(l)+"."+section] }

// All returns the pages of all paths, by family and within it by name, and
// those of the topics.
func All() (paths, topics []*Page, err error) {
	if paths, err = load("paths"); err != nil {
		return nil, nil, err
	}
	slices.SortFunc(paths, func(a, b *Page) int {
		order := slices.Index(Families, a.family()) - slices.Index(Families, b.family())
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
