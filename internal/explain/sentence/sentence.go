// Package sentence says in Chinese what closetrace says in English: why connections ended, and what a summary or an
// answer says around that.
//
// sentences.txt has each sentence in both languages. The English one is what the rest of closetrace writes: a test
// compares it with the words of the rules. Here it is only recognized, so that no decision is made twice, and a text
// that is not recognized as a whole stays as it is. The package is pure: text in, text out.
package sentence

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/closetrace/closetrace/internal/sink/table"
)

//go:embed sentences.txt
var source string

// longest is the length of texts that are looked at, in bytes. Only what others named is longer.
const longest = 4096

// Chinese returns an English sentence of closetrace in Chinese, or as it is if it is none.
func Chinese(text string) string {
	if len(text) > longest {
		return text
	}
	b := catalog()
	if chinese, ok := b.sections[pieces].sequence(text); ok {
		return chinese
	}
	if chinese, ok := b.sections[lines].one(text); ok {
		return chinese
	}
	return text
}

// The sections of what sentences consist of, and of whole lines.
const (
	pieces = "pieces"
	lines  = "lines"
)

// kinds are the parts of sentences that are the same in both languages, as regular expressions. A number may be a
// range, or an ellipsis where several lines share a row.
var kinds = map[string]string{
	"n":       number,
	"time":    number + `(?: (?:s|ms|µs)(?:–` + number + ` (?:s|ms|µs))?)`,
	"span":    `(?:[0-9]+h)?(?:[0-9]+m)?[0-9.]+ ?(?:s|ms|µs)`, // or 15m0s
	"state":   `[A-Z_0-9]*`,
	"caps":    `E[A-Z0-9]+|SIG[A-Z0-9+]+`,
	"path":    `[a-z0-9.-]+`,
	"hook":    `[a-z_0-9:]+`,
	"host":    `[^\s;:]+`,
	"word":    `[^\s;]+`,
	"address": `\S+?`,
	"task":    `.+?\[(?:[0-9]+|…)\]`,
	// Processes and threads of a list, or within a sentence: their names have no semicolon.
	"process": `[^;]+?\[[0-9]+(?:/[0-9]+)?\]`,
	"counter": `[A-Za-z]+`,
	// What others named, or what is Chinese already.
	"any": `.+?`, "hooks": `.+?`, "foreign": `.+`,
	// Sentences within a line: a cause, what an application gets, and what it does.
	cause: `.+`, got: `.+`, deed: `.+`,
}

const (
	cause = "cause"
	got   = "got"
	deed  = "deed"
)

const number = `(?:[0-9][0-9,.]*(?:–[0-9][0-9,.]*)?|…)`

// book is sentences.txt.
type book struct {
	sections map[string]*section
}

// section is the sentences that may stand in one place.
type section struct {
	book      *book
	sentences []*sentence
}

// sentence is one in both languages.
type sentence struct {
	book    *book
	english string
	begin   string   // of the English text: what comes before the first part
	needle  string   // the longest of what is between the parts
	parts   []string // of the English text, in order: n1
	chinese string
	once    sync.Once      // for the expressions, most of which are never needed
	match   *regexp.Regexp // the English text at the beginning of another
	whole   *regexp.Regexp // the same as all of it
}

// find returns where the parts are in a text that begins with the sentence, or is it; nil if it does not.
func (s *sentence) find(text string, isWhole bool) []int {
	if !strings.HasPrefix(text, s.begin) || !strings.Contains(text, s.needle) {
		return nil
	}
	s.once.Do(func() {
		pattern := s.book.pattern(s.english)
		s.match, s.whole = regexp.MustCompile(`^`+pattern), regexp.MustCompile(`^`+pattern+`$`)
	})
	if isWhole {
		return s.whole.FindStringSubmatchIndex(text)
	}
	return s.match.FindStringSubmatchIndex(text)
}

var catalog = sync.OnceValue(func() *book {
	b, err := read(source)
	if err != nil {
		panic(err) // the text is part of the program, and tests read it
	}
	return b
})

// part matches a part of a sentence, such as {n1}. SO_LINGER {1,0} has none.
var part = regexp.MustCompile(`\{([a-z]+)([0-9]?)\}`)

// varying matches what need not stand in a text as it stands in a sentence.
var varying = regexp.MustCompile(`\{[a-z]+[0-9]?\}|\((?:s|[A-Za-z ]*\|[A-Za-z ]*)\)`)

// variant matches variants of the English text: (s), (y|ies).
var variant = regexp.MustCompile(`\\\(([A-Za-z ]*)(?:\\\|([A-Za-z ]*))?\\\)`)

// read parses the text of a book.
func read(text string) (*book, error) {
	b := &book{sections: map[string]*section{}}
	var in *section
	var english string
	for at, line := range strings.Split(text, "\n") {
		name, isHead := strings.CutPrefix(line, "-- ")
		isEnglish, isChinese := strings.HasPrefix(line, "en: "), strings.HasPrefix(line, "zh: ")
		switch {
		case isHead:
			in = &section{book: b}
			b.sections[strings.TrimSuffix(name, " --")] = in
		case in == nil || line == "" || strings.HasPrefix(line, "#"):
		case isEnglish && english == "":
			english = line[len("en: "):]
		case isChinese && english != "":
			in.sentences = append(in.sentences, &sentence{book: b, english: english, chinese: line[len("zh: "):]})
			english = ""
		default:
			return nil, fmt.Errorf("line %d: %q is not expected here", at+1, line)
		}
	}
	for name, in := range b.sections {
		for _, s := range in.sentences {
			if err := s.check(); err != nil {
				return nil, fmt.Errorf("%s: %q: %w", name, s.english, err)
			}
		}
		// Of two sentences that begin alike, the longer one says more.
		slices.SortStableFunc(in.sentences, func(x, y *sentence) int { return len(y.english) - len(x.english) })
	}
	return b, nil
}

// check finds the parts of a sentence, and returns an error unless both languages have them.
func (s *sentence) check() error {
	for _, found := range part.FindAllStringSubmatch(s.english, -1) {
		name := found[1] + found[2]
		s.parts = append(s.parts, name)
		if kinds[found[1]] == "" && s.book.sections[found[1]] == nil {
			return fmt.Errorf("there is no kind and no section %q", found[1])
		}
		if strings.Count(s.english, found[0]) != 1 || strings.Count(s.chinese, found[0]) != 1 {
			return fmt.Errorf("%s does not stand once in both languages", found[0])
		}
	}
	if len(part.FindAllString(s.chinese, -1)) != len(s.parts) {
		return fmt.Errorf("the Chinese sentence has other parts: %q", s.chinese)
	}
	for i, fixed := range varying.Split(s.english, -1) {
		if i == 0 {
			s.begin = fixed
		}
		if len(fixed) > len(s.needle) {
			s.needle = fixed
		}
	}
	return nil
}

// pattern returns the regular expression of an English text, with a group for each part.
func (b *book) pattern(english string) string {
	var all strings.Builder
	end := 0
	literal := func(text string) {
		quoted := regexp.QuoteMeta(text)
		all.WriteString(variant.ReplaceAllStringFunc(quoted, func(found string) string {
			one := variant.FindStringSubmatch(found)
			switch {
			case strings.Contains(found, "|"):
				return "(?:" + one[1] + "|" + one[2] + ")"
			case one[1] == "s":
				return "s?"
			}
			return found
		}))
	}
	for _, at := range part.FindAllStringSubmatchIndex(english, -1) {
		literal(english[end:at[0]])
		end = at[1]
		all.WriteString("(" + b.inner(english[at[2]:at[3]]) + ")")
	}
	literal(english[end:])
	return all.String()
}

// inner returns the expression of a part, without groups of its own.
func (b *book) inner(kind string) string {
	if known, ok := kinds[kind]; ok {
		return known
	}
	var all []string
	for _, s := range b.sections[kind].sentences {
		all = append(all, withoutGroups(b.pattern(s.english)))
	}
	return strings.Join(all, "|")
}

// withoutGroups returns an expression whose groups capture nothing.
func withoutGroups(pattern string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		b.WriteByte(pattern[i])
		switch {
		case pattern[i] == '\\':
			i++
			b.WriteByte(pattern[i])
		case pattern[i] == '(' && pattern[i+1] != '?':
			b.WriteString("?:")
		}
	}
	return b.String()
}

// sequence returns a text of pieces in Chinese, and whether it consists of them.
func (s *section) sequence(text string) (string, bool) {
	failed := map[int]bool{} // by the length of what is left
	var from func(rest string) (string, bool)
	from = func(rest string) (string, bool) {
		if rest == "" {
			return "", true
		}
		if failed[len(rest)] {
			return "", false
		}
		for _, each := range s.sentences {
			found := each.find(rest, false)
			if found == nil || found[1] == 0 {
				continue
			}
			begin, left, separator := found[1], rest[found[1]:], ""
			if after, ok := strings.CutPrefix(left, "; "); ok {
				begin, left, separator = begin+2, after, "；"
			}
			if left == "" && separator != "" {
				continue
			}
			chinese, isWhole := each.fill(rest, found)
			if !isWhole {
				continue
			}
			if more, ok := from(rest[begin:]); ok {
				return chinese + separator + more, true
			}
		}
		failed[len(rest)] = true
		return "", false
	}
	return from(text)
}

// fill returns the Chinese sentence with the parts of a text, and whether each of them has a Chinese form.
func (s *sentence) fill(text string, found []int) (chinese string, ok bool) {
	values := make(map[string]string, len(s.parts))
	for i, name := range s.parts {
		value, ok := s.book.part(strings.TrimRight(name, "0123456789"), text[found[2*i+2]:found[2*i+3]])
		if !ok {
			return "", false
		}
		values[name] = value
	}
	end := 0
	for _, at := range part.FindAllStringSubmatchIndex(s.chinese, -1) {
		chinese = joined(joined(chinese, s.chinese[end:at[0]]), values[s.chinese[at[0]+1:at[1]-1]])
		end = at[1]
	}
	return joined(chinese, s.chinese[end:]), true
}

// part returns a part of a sentence in Chinese.
func (b *book) part(kind, text string) (chinese string, ok bool) {
	switch in := b.sections[kind]; {
	case kind == cause:
		return b.sections[pieces].sequence(text)
	case kind == got:
		return strings.ReplaceAll(text, ", then ", "，然后 "), true
	case kind == deed:
		if chinese, ok := b.sections[lines].one(text); ok {
			return chinese, true
		}
	case in != nil:
		return in.one(text)
	}
	return text, true
}

// one returns a text that is one sentence of the section in Chinese, and whether it is one.
func (s *section) one(text string) (chinese string, ok bool) {
	for _, each := range s.sentences {
		if found := each.find(text, true); found != nil {
			if chinese, ok := each.fill(text, found); ok {
				return chinese, true
			}
		}
	}
	return "", false
}

// joined returns two texts as one, without the blank of a sentence between Chinese characters.
func joined(a, b string) string {
	before, _ := utf8.DecodeLastRuneInString(strings.TrimSuffix(a, " "))
	after, _ := utf8.DecodeRuneInString(strings.TrimPrefix(b, " "))
	if isHan(before) && isHan(after) {
		return strings.TrimSuffix(a, " ") + strings.TrimPrefix(b, " ")
	}
	return a + b
}

// isHan reports whether r is Chinese, and not the mark of a byte that is no UTF-8.
func isHan(r rune) bool { return table.IsChinese(r) && r != utf8.RuneError }
