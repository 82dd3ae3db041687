package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/events"
)

// Library answers what people look up.
type Library struct {
	paths, topics []*Page
	answers       []*answer
}

// Open reads all texts.
func Open() (*Library, error) {
	paths, topics, err := All()
	if err != nil {
		return nil, err
	}
	data, err := files.ReadFile("answers" + extension)
	if err != nil {
		return nil, err
	}
	answers, err := readAnswers(string(data))
	return &Library{paths, topics, answers}, err
}

// Index lists all paths and topics.
func (l *Library) Index(o Layout) string { return Index(l.paths, l.topics, o) }

// PathText returns what returns the page of a path in a language, for a terminal of some width.
func PathText(l Language) func(path events.Path, width int) string {
	return func(path events.Path, width int) string {
		library, err := Open()
		if err != nil {
			return err.Error()
		}
		return library.Explain(string(path), Layout{Language: l, Width: width})
	}
}

// Explain returns the text on what the user typed: a path, a topic, the beginning of paths, an error, a TCP state, a
// socket option, a kernel counter, a reason of the kernel, a message, or a word that pages name. It returns "" if
// there is none.
func (l *Library) Explain(typed string, o Layout) string {
	for _, p := range slices.Concat(l.paths, l.topics) {
		if p.Name == typed {
			return p.Text(o)
		}
	}
	if text := l.group(typed, o); text != "" {
		return text
	}
	var texts []string
	for _, a := range find(l.answers, typed) {
		w := &printer{Layout: o, words: words[o.Language]}
		w.answer(a, typed, l.paths)
		texts = append(texts, w.String())
	}
	if texts == nil {
		return l.mentions(typed, o)
	}
	return strings.Join(texts, "\n")
}

// group lists the paths that begin with a prefix, with or without ".*".
func (l *Library) group(prefix string, o Layout) string {
	prefix = strings.TrimSuffix(strings.TrimSuffix(prefix, "*"), ".")
	var pages []*Page
	for _, p := range l.paths {
		if p.Name == prefix || strings.HasPrefix(p.Name, prefix+".") {
			pages = append(pages, p)
		}
	}
	about := "group"
	if slices.Contains(events.Families(), prefix) {
		about = "family." + prefix
	}
	return listing(prefix, about, pages, "sudo closetrace --only "+prefix, o)
}

// mentions lists the pages that name an identifier, for example a kernel function.
func (l *Library) mentions(word string, o Layout) string {
	if len(word) < 4 || strings.ContainsAny(word, " .") || word == strings.ToLower(word) && !strings.Contains(word, "_") {
		return ""
	}
	var pages []*Page
	for _, p := range slices.Concat(l.paths, l.topics) {
		for section, text := range p.sections {
			if !strings.HasPrefix(section, string(Chinese)+".") && names(text, word) {
				pages = append(pages, p)
				break
			}
		}
	}
	return listing(word, "mentions", pages, "", o)
}

// listing lists pages, and says how to go on: with the first one, and with another command if there is one. It returns
// "" if there is no page.
func listing(name, about string, pages []*Page, next string, o Layout) string {
	if len(pages) == 0 {
		return ""
	}
	w := &printer{Layout: o, words: words[o.Language]}
	w.title(name, w.words[about])
	w.WriteString(indexOf(titles(pages, o.Language), 0, o))
	w.head("next")
	w.verbatim("closetrace explain " + pages[0].Name + "\n" + next)
	return w.String()
}

// Completions returns the names of all paths and topics, each with a tab and its title.
func (l *Library) Completions(language Language) []string {
	var all []string
	for _, p := range slices.Concat(l.paths, l.topics) {
		all = append(all, p.Name+"\t"+p.Title(language))
	}
	return all
}

// Names returns what [Suggest] can choose from: paths and the groups they form, topics, and the words of answers.
func (l *Library) Names() []string {
	var all []string
	add := func(name string) {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	for _, p := range l.paths {
		for i, r := range p.Name {
			if r == '.' {
				add(p.Name[:i])
			}
		}
	}
	for _, p := range slices.Concat(l.paths, l.topics) {
		add(p.Name)
	}
	for _, a := range l.answers {
		for _, word := range a.words() {
			add(word)
		}
	}
	return all
}

// check returns an error for an answer that is incomplete, or names a page that does not exist.
func (l *Library) check() error {
	has := func(pages []*Page, name string) bool {
		return slices.ContainsFunc(pages, func(p *Page) bool { return p.Name == name })
	}
	for _, a := range l.answers {
		for _, language := range Languages {
			if a.text[language] == "" {
				return fmt.Errorf("%s has no text in %s", a.name, language)
			}
		}
		for _, path := range a.paths {
			if !has(l.paths, path) {
				return fmt.Errorf("%s names the path %s, which does not exist", a.name, path)
			}
		}
		for _, topic := range a.see {
			if !has(l.topics, topic) {
				return fmt.Errorf("%s names the topic %s, which does not exist", a.name, topic)
			}
		}
		if a.try == "" && len(a.see) == 0 && len(a.lists(l.paths, English)) == 0 {
			return fmt.Errorf("%s leads nowhere", a.name)
		}
	}
	return nil
}
