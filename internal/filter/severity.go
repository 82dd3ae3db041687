package filter

import "github.com/closetrace/closetrace/internal/events"

// Severity is how much an ending deserves a look.
type Severity uint8

// The severities; docs/terminal.md tells them to people.
const (
	Plain   Severity = iota // nobody loses anything, or is surprised
	Notable                 // an error without a RST, or the other end is told nothing
	Severe                  // an error by a RST, sent or received
)

// SeverityOf is the severity of e. What counts as an error is for [IsError] to
// say.
func SeverityOf(e *events.Ending) Severity {
	switch is := IsError(e); {
	case is && Pattern("rst").Names(e):
		return Severe
	case is || untold(e):
		return Notable
	}
	return Plain
}

// untold: a connection ended, or an attempt to make one, and the other end
// learns nothing of it. The close of a socket that had ended before, as
// close.silent.closed tells it, ends nothing.
func untold(e *events.Ending) bool {
	return Pattern("*.silent*").Covers(e.Path) && !Pattern("close.silent.closed").Covers(e.Path) && e.Before != events.Close
}
