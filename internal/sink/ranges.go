package sink

import (
	"cmp"
	"strconv"
	"strings"
	"time"
)

// numbers is a text in which some numbers differ: the causes of several endings that say the same.
type numbers struct {
	// shape is the text with \x00 instead of each number. Causes of the same shape say the same.
	shape     string
	ends      []int    // of the pieces of shape before each number
	low, high []number // in the order of the text
}

// number is one number of a text, with its unit if it is a time.
type number struct {
	text  string
	value float64 // of a time: nanoseconds
	unit  string  // of a time: " ms" for example; otherwise empty
	// isID: it only names something, such as a process or an address, and has no range.
	isID bool
}

// units are those of times, in nanoseconds.
var units = map[string]time.Duration{" s": time.Second, " ms": time.Millisecond, " µs": time.Microsecond}

// numbersOf splits a cause. A number begins with a digit that does not continue a word, such as the one in FIN_WAIT1.
func numbersOf(text string) *numbers {
	n := &numbers{}
	var shape strings.Builder
	for i := 0; i < len(text); {
		if !isDigit(text[i]) || i > 0 && isWord(text[i-1]) {
			shape.WriteByte(text[i])
			i++
			continue
		}
		end := i + 1
		for end < len(text) && (isDigit(text[end]) || isSeparator(text[end:])) {
			end++
		}
		found := number{text: text[i:end], isID: i > 0 && text[i-1] != ' ' && text[i-1] != '('}
		found.value, _ = strconv.ParseFloat(strings.ReplaceAll(found.text, ",", ""), 64) // of an address: not used
		if unit := unitOf(text[end:]); unit != "" && !found.isID {
			found.unit, found.value = unit, found.value*float64(units[unit])
			end += len(unit)
		}
		n.ends = append(n.ends, shape.Len())
		shape.WriteByte(0)
		n.low = append(n.low, found)
		i = end
	}
	n.shape, n.high = shape.String(), append(n.high, n.low...)
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isSeparator reports whether rest goes on within a number.
func isSeparator(rest string) bool {
	return len(rest) > 1 && (rest[0] == ',' || rest[0] == '.') && isDigit(rest[1])
}

// isWord reports whether c continues a word, or the part of a number before it.
func isWord(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= 0x80
}

// unitOf returns the unit of time that rest begins with, or "".
func unitOf(rest string) string {
	for unit := range units {
		if after, ok := strings.CutPrefix(rest, unit); ok && (after == "" || !isWord(after[0])) {
			return unit
		}
	}
	return ""
}

// copied returns a copy that can be widened.
func (n *numbers) copied() numbers {
	return numbers{n.shape, n.ends, append([]number(nil), n.low...), append([]number(nil), n.high...)}
}

// widen makes the ranges include the numbers of a text of the same shape.
func (n *numbers) widen(other *numbers) {
	for i := range min(len(other.low), len(n.low)) {
		if other.low[i].isID {
			if other.low[i].text != n.low[i].text {
				n.low[i].text, n.high[i].text = "…", "…"
			}
			continue
		}
		if other.low[i].value < n.low[i].value {
			n.low[i] = other.low[i]
		}
		if other.high[i].value > n.high[i].value {
			n.high[i] = other.high[i]
		}
	}
}

// String returns the text with a range for each number that differs: "148–1,503 B unread".
func (n *numbers) String() string {
	var b strings.Builder
	begin := 0
	for i, end := range n.ends {
		b.WriteString(n.shape[begin:end])
		begin = end + 1
		low, high := n.low[i], n.high[i]
		switch {
		case low.text == high.text && low.unit == high.unit:
			b.WriteString(low.text + low.unit)
		case low.unit == high.unit:
			b.WriteString(low.text + "–" + high.text + low.unit)
		default:
			b.WriteString(low.text + low.unit + "–" + high.text + high.unit)
		}
	}
	b.WriteString(n.shape[begin:])
	return b.String()
}

// compareGroups orders groups: the most severe first, then the largest, then the oldest.
func compareGroups(a, b *group) int {
	return cmp.Or(cmp.Compare(b.severity, a.severity), cmp.Compare(b.endings, a.endings),
		cmp.Compare(a.first.MonoNS, b.first.MonoNS))
}
