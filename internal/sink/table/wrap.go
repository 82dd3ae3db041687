package table

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/olekukonko/tablewriter/pkg/twwarp"
)

// IsChinese reports whether a line may be broken before and after r: it is a Chinese character or full-width
// punctuation.
func IsChinese(r rune) bool { return r >= 0x2e80 && r <= 0xffdc }

// Punctuation of Chinese text that must not begin a line, or must not end one. No blank is beside it.
const (
	Closing = "，。；：？！、）》」』”"
	opening = "（《「『“"
)

// Wrap breaks text into lines of at most width cells, between words and Chinese characters. A longer word has a line of
// its own.
func Wrap(s string, width int) []string {
	switch {
	case width < 1:
		return []string{s}
	case strings.IndexFunc(s, IsChinese) < 0:
		lines, _ := twwarp.WrapString(s, width)
		return lines
	}
	return strings.Split(strings.TrimSuffix(Fill(s, "", "", width), "\n"), "\n")
}

// Fill breaks text into lines of at most width cells, at blanks and between Chinese characters. The first line begins
// with first, the others with rest.
func Fill(text, first, rest string, width int) string {
	var b strings.Builder
	line, used, empty := first, Width(first), true
	for _, piece := range pieces(text) {
		if !empty && used+Width(strings.TrimSuffix(piece, " ")) > width {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line, used = rest, Width(rest)
		}
		line += piece
		used += Width(piece)
		empty = false
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	return b.String()
}

// Refill fits paragraphs to a width in cells, if one of their lines is wider. A line that begins with a blank stays as
// it is.
func Refill(text string, width int) string {
	var b strings.Builder
	var paragraph []string
	flush := func() {
		if slices.ContainsFunc(paragraph, func(line string) bool { return Width(line) > width }) {
			b.WriteString(Fill(strings.Join(paragraph, " "), "", "", width))
		} else {
			for _, line := range paragraph {
				b.WriteString(line + "\n")
			}
		}
		paragraph = nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == ' ' {
			flush()
			b.WriteString(line + "\n")
			continue
		}
		paragraph = append(paragraph, line)
	}
	flush()
	return b.String()
}

// pieces cuts text where a line may end. A blank stays with the piece before it.
func pieces(text string) []string {
	var all []string
	current := ""
	var last rune
	for _, r := range text {
		mayBreak := last == ' ' || (IsChinese(r) || IsChinese(last)) && last != 0 && r != ' '
		if strings.ContainsRune(Closing, r) || strings.ContainsRune(opening, last) {
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

// Join joins two lines of a paragraph: with a blank, except between Chinese characters and beside their punctuation.
func Join(a, b string) string {
	last, _ := utf8.DecodeLastRuneInString(a)
	first, _ := utf8.DecodeRuneInString(b)
	const punctuation = opening + Closing
	switch {
	case a == "" || b == "",
		IsChinese(last) && IsChinese(first),
		strings.ContainsRune(punctuation, last),
		strings.ContainsRune(punctuation, first):
		return a + b
	default:
		return a + " " + b
	}
}
