package sink

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable returns s in a form that a terminal shows and nothing obeys, and
// from which s can be told: as Tame does, and a backslash becomes two.
func printable(s string) string { return Tame(strings.ReplaceAll(s, `\`, `\\`)) }

// Tame returns s in a form that a terminal shows and nothing obeys: control
// characters, terminal escapes, marks that turn the direction of writing and
// bytes that are not UTF-8 become \x1b or \u202e.
func Tame(s string) string {
	if !wild(s) {
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

// wild tells whether there is anything to tame.
func wild(s string) bool {
	const arrow = "→" // of our own phrases, and quicker than the tables of Unicode
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
			return true
		}
		i += size
	}
	return false
}
