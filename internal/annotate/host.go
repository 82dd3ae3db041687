package annotate

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/ladder"
	"github.com/closetrace/closetrace/internal/sink"
)

// Limits of what is kept of a host.
const (
	maxAddresses = 1 << 16
	maxPairs     = 1 << 14
)

// host is what the recordings of a host say. It is a sink of their endings.
type host struct {
	matcher *matcher
	files   []*os.File
	header  events.Header
	named   bool // there are several hosts

	// While the offset of the clocks is estimated, endings are not given to segments.
	estimating bool
	pairs      []time.Duration // how much later a segment was captured, by addresses and sequence number
	foreign    []time.Duration // the same, by sequence numbers alone
	offset     time.Duration   // of the clock of the capture

	addresses   map[netip.Addr]bool
	first, last time.Time // endings
}

// Begin takes the header of a recording.
func (h *host) Begin(header events.Header) { h.header = header }

// Write takes an ending.
func (h *host) Write(e *events.Ending) error {
	if h.estimating {
		h.meet(e)
		h.estimate(e)
		return nil
	}
	h.matcher.note(e)
	for _, x := range segmentsOf(e) {
		h.matcher.candidates(&x, func(s *segment, how fit) {
			if delta := s.Time.Sub(e.Time) - h.offset; x.inTime(how, delta) {
				h.matcher.take(s, &x, how, delta, h.comment)
			}
		})
	}
	return nil
}

// Flush does nothing.
func (h *host) Flush() error { return nil }

// Close does nothing.
func (h *host) Close() error { return nil }

// meet keeps which addresses the host has, and when it had endings.
func (h *host) meet(e *events.Ending) {
	if h.addresses == nil {
		h.addresses = map[netip.Addr]bool{}
	}
	if len(h.addresses) < maxAddresses {
		h.addresses[unmapped(e.Local).Addr()] = true
	}
	if h.first.IsZero() || e.Time.Before(h.first) {
		h.first = e.Time
	}
	if e.Time.After(h.last) {
		h.last = e.Time
	}
}

// estimate keeps by how much the clock of the capture is ahead.
func (h *host) estimate(e *events.Ending) {
	for _, x := range segmentsOf(e) {
		h.matcher.candidates(&x, func(s *segment, how fit) {
			delta := s.Time.Sub(e.Time)
			switch {
			case (how == exact || how == received) && len(h.pairs) < maxPairs:
				h.pairs = append(h.pairs, delta)
			case how == translated && len(h.foreign) < maxPairs:
				h.foreign = append(h.foreign, delta)
			}
		})
	}
}

// estimated sets the offset of the clocks, once all endings were seen.
func (h *host) estimated() {
	if len(h.pairs) == 0 {
		h.pairs = h.foreign
	}
	if len(h.pairs) > 0 {
		slices.Sort(h.pairs)
		h.offset = h.pairs[(len(h.pairs)-1)/2]
	}
}

// maxComment is how long a comment is at most, in bytes.
const maxComment = 1000

// comment returns the comment on a segment of an ending.
func (h *host) comment(e *events.Ending) string {
	var b strings.Builder
	b.WriteString(prefix + string(e.Path))
	task := e.Actor
	if task == nil {
		task = e.Owner
	}
	if task != nil {
		b.WriteString(" " + ladder.Task(task))
	}
	if e.Cause != "" {
		b.WriteString(" " + e.Cause)
	}
	if e.Doubt != "" {
		b.WriteString(" (inferred: " + e.Doubt + ")")
	}
	if h.named {
		b.WriteString(" on " + h.name())
	}
	return cut(b.String())
}

// cut returns a comment on one line that is safe to print, cut to its longest length.
func cut(comment string) string {
	text := sink.OneLine(comment)
	return strings.ToValidUTF8(text[:min(len(text), maxComment)], "")
}

// name returns the name of the host in messages.
func (h *host) name() string {
	if h.header.Host == "" {
		return "an unnamed host"
	}
	return h.header.Host
}

// missesNetfilter reports whether RSTs of netfilter are not recorded.
func (h *host) missesNetfilter() bool {
	return h.header.ByTracepoint() || slices.Contains(h.header.Missing, "nf_send_reset")
}
