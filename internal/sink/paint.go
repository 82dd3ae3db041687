package sink

import "github.com/closetrace/closetrace/internal/filter"

// The terminal's own red and yellow, which its user may have chosen (ECMA-48,
// SGR).
var paints = map[filter.Severity]string{filter.Severe: "\x1b[31m", filter.Notable: "\x1b[33m"}

const unpainted = "\x1b[39m"

// Paint returns s, which is printable, in the colour of a severity: red, yellow,
// or as it is.
func Paint(s string, v filter.Severity) string {
	if paint, ok := paints[v]; ok {
		return paint + s + unpainted
	}
	return s
}
