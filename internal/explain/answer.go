package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink/table"
)

// answer is a section of answers.txt: what a word or a message means, and the paths concerned. The paths of errors come
// from the pages, those of counters and of the kernel's reasons from the table of paths.
type answer struct {
	name  string
	also  []string // other words and messages with the same answer
	by    string   // the program that prints the message, "" if name is not a message of a program
	paths []string
	see   []string // topics
	try   string   // a command that shows it on this machine
	text  map[Language]string
}

// readAnswers parses answers.txt.
func readAnswers(data string) ([]*answer, error) {
	_, sections, err := split(data)
	if err != nil {
		return nil, err
	}
	var all []*answer
	for name, text := range sections {
		a := &answer{name: name, text: map[Language]string{}}
		for _, line := range unfold(text) {
			key, value, ok := strings.Cut(line, ": ")
			if !ok || a.keys().set(key, value) != nil {
				return nil, fmt.Errorf("answers%s: %s: %q is not a line of the form key: value", extension, name, line)
			}
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *answer) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// unfold returns the lines of a text. One that begins with a blank continues the one before.
func unfold(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if more := strings.TrimSpace(line); line[0] == ' ' && lines != nil {
			lines[len(lines)-1] = table.Join(lines[len(lines)-1], more)
		} else if more != "" {
			lines = append(lines, more)
		}
	}
	return lines
}

// keys returns what assigns the value of each key.
func (a *answer) keys() keys {
	return keys{
		"also": toList(&a.also, ", "), "by": toText(&a.by), "paths": toList(&a.paths, ", "), "see": toList(&a.see, ", "),
		"try":           toText(&a.try),
		string(English): func(value string) { a.text[English] = value },
		string(Chinese): func(value string) { a.text[Chinese] = value },
	}
}

func isState(name string) bool {
	state, ok := events.ParseState(name)
	return ok && state.String() == name
}

func isCounter(name string) bool {
	for c := range events.Counters {
		if c.String() == name {
			return true
		}
	}
	return name == events.AbortFailed || slices.Contains(listenCounters, name)
}

// listenCounters count what a listener drops without an answer, so that no ending moves them.
var listenCounters = []string{"ListenOverflows", "ListenDrops"}

// words returns the words and messages that the answer is for.
func (a *answer) words() []string {
	all := append([]string{a.name}, a.also...)
	if text := events.ErrnoNamed(a.name).Text(); text != "" {
		all = append(all, text)
	}
	return all
}

// matched returns which of the words of the answer the user typed, or the longest in the message that the user typed.
func (a *answer) matched(typed string) string {
	found := ""
	for _, word := range a.words() {
		if len(word) > len(found) && (key(word) == key(typed) || contains(typed, word)) {
			found = word
		}
	}
	return cmp.Or(found, a.name)
}

// key returns a word in the form in which words are compared.
func key(word string) string {
	word = strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(word), "-", "_"))
	word = strings.TrimPrefix(word, "SK_RST_REASON_")
	return strings.TrimPrefix(word, "TCPEXT")
}

// find returns the answers for what the user typed: a word, or a message that contains one.
func find(all []*answer, typed string) []*answer {
	if state, ok := events.ParseState(typed); ok {
		typed = state.String()
	}
	if n, err := strconv.ParseUint(typed, 10, 8); err == nil {
		typed = events.Errno(n).Name()
	}
	var found, messages []*answer
	for _, a := range all {
		for _, word := range a.words() {
			if key(word) == key(typed) {
				return []*answer{a}
			}
			if !contains(typed, word) {
				continue
			}
			found = append(found, a)
			if a.by != "" {
				messages = append(messages, a)
			}
			break
		}
	}
	// What a program says about itself comes before the error that it quotes.
	if messages != nil {
		return messages
	}
	return found
}

// contains reports whether a message contains words, as whole words. Several words may be in upper or lower case.
func contains(message, words string) bool {
	if strings.Contains(words, " ") {
		return names(strings.ToLower(message), strings.ToLower(words))
	}
	return names(message, words)
}

// list is a list of paths under a heading, which is a key of the words of a language.
type list struct {
	head  string
	items []item
	about string // holds for all items
}

// lists returns the paths that an answer is about.
func (a *answer) lists(paths []*Page, l Language) []list {
	all := []list{{head: "paths"}, {head: "moves"}, {head: "here"}, {head: "peer"}}
	isErrno, moves := events.ErrnoNamed(a.name) != 0, a.moves(paths)
	for _, p := range paths {
		title := p.Title(l)
		here, peer := isErrno && names(p.text(English, "here"), a.name), isErrno && names(p.text(English, "peer"), a.name)
		named := slices.Contains(a.paths, p.Name) && !here && !peer
		if named || p.givesReason(a.name) || a.paths == nil && a.isOption() && p.isAbout(a.name) {
			all[0].items = append(all[0].items, item{p.Name, title})
		}
		if m, ok := moves[p]; ok && moves.agree() {
			all[1].items, all[1].about = append(all[1].items, item{p.Name, title}), condition(m, l)
		} else if ok {
			all[1].items = append(all[1].items, item{p.Name, title + condition(m, l)})
		}
		if here {
			all[2].items = append(all[2].items, item{p.Name, title})
		}
		if peer {
			all[3].items = append(all[3].items, item{p.Name, title})
		}
	}
	// The paths of the file come first, in its order.
	rank := func(i item) int {
		if at := slices.Index(a.paths, i.name); at >= 0 {
			return at
		}
		return len(a.paths)
	}
	for _, l := range all {
		slices.SortStableFunc(l.items, func(x, y item) int { return rank(x) - rank(y) })
	}
	return slices.DeleteFunc(all, func(l list) bool { return len(l.items) == 0 })
}

// moves are those of a counter, by the page of the path.
type moves map[*Page]events.Move

func (a *answer) moves(paths []*Page) moves {
	all := moves{}
	for _, p := range paths {
		for _, m := range p.Info.Counters {
			if m.Counter.String() == a.name {
				all[p] = m
			}
		}
	}
	return all
}

// agree reports whether all have the same condition.
func (m moves) agree() bool {
	conditions := map[events.Condition]bool{}
	for _, each := range m {
		conditions[each.If] = true
	}
	return len(conditions) == 1
}

// condition returns the words for the condition under which a counter moves.
func condition(m events.Move, l Language) string {
	if m.If == "" {
		return ""
	}
	return words[l]["if."+string(m.If)]
}

// isOption reports whether the answer is about a socket option, a flag or a sysctl.
func (a *answer) isOption() bool {
	return a.by == "" && events.ErrnoNamed(a.name) == 0 && !isState(a.name) && !isCounter(a.name) && !isReason(a.name)
}

func isReason(name string) bool {
	return name == "NOT_SPECIFIED" || slices.ContainsFunc(events.Paths(), func(i events.PathInfo) bool {
		return slices.ContainsFunc(i.Reasons, func(r events.Reason) bool { return r.Name == name })
	})
}

func (p *Page) givesReason(name string) bool {
	return slices.ContainsFunc(p.Info.Reasons, func(r events.Reason) bool { return r.Name == name })
}

// isAbout reports whether the page names a word where it says what happens, and when.
func (p *Page) isAbout(word string) bool {
	for _, section := range []string{"title", "what", "condition"} {
		if names(p.text(English, section), word) {
			return true
		}
	}
	return names(p.sections["chain"], word)
}

// names reports whether a text contains a word as it is, as a whole word.
func names(text, word string) bool {
	if word == "" {
		return false
	}
	for from := 0; ; {
		at := strings.Index(text[from:], word)
		if at < 0 {
			return false
		}
		at += from
		end := at + len(word)
		if (at == 0 || !isWord(text[at-1])) && (end == len(text) || !isWord(text[end])) {
			return true
		}
		from = end
	}
}

// isWord reports whether b belongs to a word: an ASCII letter, a digit or "_".
func isWord(b byte) bool {
	return b == '_' || '0' <= b && b <= '9' || 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z'
}

// subject says what the name of an answer is.
func (a *answer) subject(l Language) string {
	e := events.ErrnoNamed(a.name)
	switch {
	case e != 0:
		return fmt.Sprintf("%s (errno %d)", e.Text(), int(e))
	case isState(a.name):
		return words[l]["state"]
	case isCounter(a.name):
		return words[l]["counter"]
	case isReason(a.name):
		return words[l]["resetby"]
	case a.by != "":
		return words[l]["by"] + a.by
	}
	return words[l]["option"]
}

// answer writes an answer.
func (w *printer) answer(a *answer, typed string, paths []*Page) {
	if word := a.matched(typed); a.by != "" && word != a.name {
		w.title(word, fmt.Sprintf(w.words["like"], a.name, a.by))
	} else {
		w.title(a.name, a.subject(w.Language))
	}
	w.body(a.text[w.Language], "  ")
	lists := a.lists(paths, w.Language)
	names := 0
	for _, l := range lists {
		for _, i := range l.items {
			names = max(names, len(i.name))
		}
	}
	for _, l := range lists {
		w.heading(w.words[l.head] + l.about)
		w.WriteString(indexOf(l.items, names, w.Layout))
	}
	var next []string
	if a.try != "" {
		next = append(next, a.try)
	}
	if len(lists) > 0 {
		next = append(next, "closetrace explain "+lists[0].items[0].name)
	}
	for _, topic := range a.see {
		next = append(next, "closetrace explain "+topic)
	}
	w.head("next")
	w.verbatim(strings.Join(next, "\n"))
}
