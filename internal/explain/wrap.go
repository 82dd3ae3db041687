package explain

import "strings"

// cells is the width of text on a terminal.
func cells(text string) int {
	n := 0
	for _, r := range text {
		n++
		if wide(r) {
			n++
		}
	}
	return n
}

// wide tells whether a character of the texts takes two cells: Chinese and its
// punctuation.
func wide(r rune) bool { return r >= 0x2e80 && r <= 0xffdc }

// Chinese punctuation that must not begin a line, and that must not end one.
const (
	notFirst = "，。；：？！、）》」』”"
	notLast  = "（《「『“"
)

// wrap breaks text into lines of at most width cells, at spaces and between
// Chinese characters. The first line begins with first, the others with rest.
func wrap(text, first, rest string, width int) string {
	var b strings.Builder
	line, used := first, cells(first)
	for _, w := range pieces(text) {
		word := strings.TrimSuffix(w, " ")
		if used+cells(word) > width && strings.TrimSpace(line) != strings.TrimSpace(first) {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line, first = rest, rest
			used = cells(rest)
		}
		line += w
		used += cells(w)
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	return b.String()
}

// pieces cuts text where a line may end; a space stays with the piece before
// it.
func pieces(text string) []string {
	var all []string
	current := ""
	var last rune
	for _, r := range text {
		mayBreak := last == ' ' || (wide(r) || wide(last)) && last != 0 && r != ' '
		if strings.ContainsRune(notFirst, r) || strings.ContainsRune(notLast, last) {
			mayBreak = false
		}
		if mayBreak {
			all = append(all, current)
			current = ""
		}
		current += string(r)
		last = r
	}
	return append(all, current)
}
