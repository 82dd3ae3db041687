package sink

import (
	"fmt"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// BothEnds is what was found in the recordings of several hosts, in text and as JSON.
type BothEnds struct {
	Joined    int     `json:"joined"`       // connections of which both ends are on different hosts
	ByAddress int     `json:"by_address"`   // of these, those that were found by their addresses
	Resets    int     `json:"resets"`       // RSTs whose sender has no connection, found by their numbers
	Ambiguous int     `json:"ambiguous"`    // connections that are not joined, because several ends fit
	OneEnd    int     `json:"one_end"`      // connections of which no other end was found
	Twice     int     `json:"twice"`        // endings that two recordings of one host have
	Beyond    int     `json:"not_compared"` // endings beyond the limit
	Clocks    []Clock `json:"clocks"`       // the first one is that of all times
}

// Clock is how the clock of a host was compared with the first one.
type Clock struct {
	Label    string `json:"-"`
	Host     string `json:"host"`
	BootID   string `json:"boot_id"`
	AheadNS  int64  `json:"ahead_ns"`
	SpreadNS int64  `json:"spread_ns"`
	Samples  int    `json:"samples"`
}

// Lines returns the text. It may have names that others chose.
func (b *BothEnds) Lines() (lines []string) {
	if b.Twice > 0 {
		lines = append(lines, events.Quantity(uint64(b.Twice), "ending is", "endings are")+
			" in several recordings of one host, and shown once")
	}
	if len(b.Clocks) < 2 {
		return lines
	}
	line := "both ends: " + events.Quantity(uint64(b.Joined), "connection", "connections") + " joined"
	for _, part := range []struct {
		n         int
		one, many string
	}{
		{b.ByAddress, "of them by address", "of them by address"},
		{b.Resets, "more RST by its numbers", "more RSTs by their numbers"},
		{b.Ambiguous, "ambiguous, not joined", "ambiguous, not joined"},
		{b.OneEnd, "with one end only", "with one end only"},
		{b.Beyond, "ending beyond the limit, not compared", "endings beyond the limit, not compared"},
	} {
		if part.n > 0 {
			line += "; " + events.Quantity(uint64(part.n), part.one, part.many)
		}
	}
	lines = append(lines, line)
	first := b.Clocks[0].Label
	for _, c := range b.Clocks[1:] {
		lines = append(lines, c.line(first))
	}
	return lines
}

// line says how a clock was compared with that of the first host.
func (c *Clock) line(first string) string {
	if c.Samples == 0 {
		return fmt.Sprintf("clock of %s: its wall clock is taken to agree with that of %s, as no connection shows the offset",
			c.Label, first)
	}
	ahead, where := time.Duration(c.AheadNS), "ahead of"
	if ahead < 0 {
		ahead, where = -ahead, "behind"
	}
	line := fmt.Sprintf("clock of %s: %s %s that of %s", c.Label, ahead.Round(time.Microsecond), where, first)
	if c.Samples < 3 {
		return line + ", by " + events.Quantity(uint64(c.Samples), "segment", "segments")
	}
	return line + fmt.Sprintf(", the median of %s segments; half of them within %s", events.Grouped(uint64(c.Samples)),
		time.Duration(c.SpreadNS).Round(time.Microsecond))
}
