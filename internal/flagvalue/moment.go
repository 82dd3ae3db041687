package flagvalue

import (
	"fmt"
	"time"

	"github.com/closetrace/closetrace/internal/hint"
)

// Moment is a time of the clock.
type Moment struct {
	Time *time.Time
	now  func() time.Time
}

// NewMoment returns a flag that sets a time.
func NewMoment(to *time.Time) Moment { return Moment{Time: to, now: time.Now} }

// String returns "": there is no default.
func (m Moment) String() string { return "" }

// Type returns the placeholder of the value in the help.
func (m Moment) Type() string { return "WHEN" }

// Set accepts a date and a time, the time of today, or how long ago it is, such as 10m.
func (m Moment) Set(text string) error {
	now := m.now()
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		*m.Time = now.Add(-ago)
		return nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		*m.Time = t
		return nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			*m.Time = t
			return nil
		}
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			year, month, day := now.Date()
			*m.Time = time.Date(year, month, day, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location())
			return nil
		}
	}
	return hint.New(hint.Usage, fmt.Sprintf("%q is not a time", text),
		`use "2026-11-28 14:30:00", 14:30 (of today), 2026-11-28T14:30:00Z, or how long ago: 10m`)
}
