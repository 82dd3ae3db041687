package explain

import (
	"strings"
	"unicode/utf8"

	"github.com/closetrace/closetrace/internal/sink/table"
)

// isChinese reports whether a line may be broken before and after r: it is a Chinese character or full-width
// punctuation.
func isChinese(r rune) bool { return r >= 0x2e80 && r <= 0xffdc }

// Punctuation of Chinese text that must not begin a line, or must not end one. No blank is beside it.
const (
	closing = "，。；：？！、）》」』”"
	opening = "（《「『“"
)

// wrap breaks text into lines of at most width cells, at blanks and between Chinese characters. The first line begins
// with first, the others with rest.
func wrap(text, first, rest string, width int) string {
	var b strings.Builder
	line, used, empty := first, table.Width(first), true
	for _, piece := range pieces(text) {
		if !empty && used+table.Width(strings.TrimSuffix(piece, " ")) > width {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line, used = rest, table.Width(rest)
		}
		line += piece
		used += table.Width(piece)
		empty = false
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	return b.String()
}

// pieces cuts text where a line may end. A blank stays with the piece before it.
func pieces(text string) []string {
	var all []string
	current := ""
	var last rune
	for _, r := range text {
		mayBreak := last == ' ' || (isChinese(r) || isChinese(last)) && last != 0 && r != ' '
		if strings.ContainsRune(closing, r) || strings.ContainsRune(opening, last) {
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

// join joins two lines of a paragraph: with a blank, except between Chinese characters and beside their punctuation.
func join(a, b string) string {
	last, _ := utf8.DecodeLastRuneInString(a)
	first, _ := utf8.DecodeRuneInString(b)
	const punctuation = opening + closing
	switch {
	case a == "" || b == "",
		isChinese(last) && isChinese(first),
		strings.ContainsRune(punctuation, last),
		strings.ContainsRune(punctuation, first):
		return a + b
	default:
		return a + " " + b
	}
}
