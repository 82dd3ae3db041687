package sink

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable is [Tame], with two backslashes for one, so that different texts look different.
func printable(s string) string { return Tame(strings.ReplaceAll(s, `\`, `\\`)) }

// Tame returns s in a form that is safe to print: control characters, terminal escapes, marks that change the direction
// of writing and bytes that are not UTF-8 become escapes such as \x1b or \u202e.
func Tame(s string) string {
	if isSafe(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1, r < 0x80 && !unicode.IsPrint(r):
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[s[i]>>4])
			b.WriteByte(hexDigits[s[i]&15])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

const hexDigits = "0123456789abcdef"

// isSafe reports whether Tame would not change s.
func isSafe(s string) bool {
	const arrow = "→" // in most texts, and cheaper than the tables of Unicode
	for i := 0; i < len(s); {
		if c := s[i]; ' ' <= c && c <= '~' {
			i++
			continue
		}
		if strings.HasPrefix(s[i:], arrow) {
			i += len(arrow)
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || !unicode.IsPrint(r) {
			return false
		}
		i += size
	}
	return true
}

// OneLine returns s as [Tame] does, on one line: "; " replaces line breaks.
func OneLine(s string) string {
	return Tame(strings.ReplaceAll(strings.TrimSpace(s), "\n", "; "))
}

// signs are those of our own texts, in ASCII.
var signs = strings.NewReplacer("→", "->", "←", "<-", "×", "x", "–", "-", "…", "...", "µ", "u", "≥", ">=", "≤", "<=",
	"↑", "^", "↓", "v", "•", "|")

// ASCII returns s, which is printable, for a terminal that has only ASCII: signs become similar ones, and foreign
// letters escapes such as \u65e5.
func ASCII(s string) string {
	if isASCII(s) {
		return s
	}
	var b strings.Builder
	for _, r := range signs.Replace(s) {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
