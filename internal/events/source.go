package events

import (
	"errors"
	"time"
)

// ErrIdle is what a source returns if all its events were read and no other has arrived for a moment: the caller should
// flush.
var ErrIdle = errors.New("no event for now")

// LaterTick is how long a source may wait for an event before it returns [ErrIdle], while nothing waits to be printed.
// The kernel side wakes a reader that sleeps for so long.
const LaterTick = 250 * time.Millisecond

// Losses counts what a source did not report since the start.
type Losses struct {
	LostRecords  uint64 // the ring buffer was full
	MissedProbes uint64 // a program did not run, or the return of a call was not seen
	Suppressed   uint64 // RST replies over the rate limit
}

// Add returns the sum of both.
func (l Losses) Add(m Losses) Losses {
	return Losses{l.LostRecords + m.LostRecords, l.MissedProbes + m.MissedProbes, l.Suppressed + m.Suppressed}
}

// ReportsAll is part of a source that counts no endings.
type ReportsAll struct{}

// Counted returns nil.
func (ReportsAll) Counted() map[Path]uint64 { return nil }

// Notes has none.
func (ReportsAll) Notes(func(*Note)) uint64 { return 0 }

// PeerFIN knows none.
func (ReportsAll) PeerFIN(*Event) (uint64, bool) { return 0, false }
