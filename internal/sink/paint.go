package sink

import "github.com/closetrace/closetrace/internal/events"

// Red and yellow of the terminal, which its user can configure (ECMA-48, SGR).
var paints = map[events.Severity]string{events.Severe: "\x1b[31m", events.Notable: "\x1b[33m"}

const unpainted = "\x1b[39m"

// Paint returns s, which is printable, in the colour of a severity: red, yellow or none.
func Paint(s string, v events.Severity) string {
	if paint, ok := paints[v]; ok {
		return paint + s + unpainted
	}
	return s
}
