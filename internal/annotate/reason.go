package annotate

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/closetrace/closetrace/internal/capture"
)

// reason is why a FIN or a RST has no comment.
type reason int

// The reasons, in the order in which they are printed.
const (
	explained reason = iota
	notRecorded
	otherEnd
	before
	after
	netfilter
	notOfConnection
	noEnding
	ambiguous
	fragment
	noRoom
	noTime
	beyondLimit
	reasons // their number
)

var reasonTexts = [reasons]string{
	notRecorded:     "neither end is on a recorded host",
	otherEnd:        "sent by the other end, whose host is not recorded",
	before:          "before the first ending of the recording",
	after:           "after the last ending of the recording",
	netfilter:       "no recorded socket sent this RST; RSTs of netfilter are not recorded in this attach mode",
	notOfConnection: "the sender's connection has endings, but none that sends this segment",
	noEnding:        "no ending of this connection by its sender in the recording",
	ambiguous:       "several endings fit",
	fragment:        "only a fragment: its sequence number cannot be computed",
	noRoom:          "a Simple Packet Block, which has no time and no comments",
	noTime:          "its time cannot be computed",
	beyondLimit:     "over the limit of 1,048,576 segments",
}

// reason returns why a segment has no comment.
func (m *matcher) reason(s *segment, hosts []*host) reason {
	switch {
	case s.comment != "":
		return explained
	case !s.Commentable:
		return noRoom
	case !s.HasTime:
		return noTime
	case s.tied:
		return ambiguous
	case s.Fragment && flagOf(&s.Segment) == capture.FIN:
		return fragment
	}
	has := func(addr netip.Addr) func(*host) bool { return func(h *host) bool { return h.addresses[addr] } }
	sender := slices.IndexFunc(hosts, has(s.Src.Addr()))
	switch {
	case sender >= 0:
		return m.reasonOf(s, hosts[sender])
	case slices.ContainsFunc(hosts, has(s.Dst.Addr())):
		return otherEnd
	}
	return notRecorded
}

// reasonOf returns why a segment that a recorded host may have sent has no comment.
func (m *matcher) reasonOf(s *segment, h *host) reason {
	at := s.Time.Add(-h.offset)
	switch {
	case at.Before(h.first.Add(-early)):
		return before
	case at.After(h.last.Add(late)):
		return after
	case flagOf(&s.Segment) == capture.RST && h.missesNetfilter():
		return netfilter
	case m.marks[ends{s.Src, s.Dst}].hasEnding:
		return notOfConnection
	}
	return noEnding
}

// tally counts segments by reason.
func (m *matcher) tally(hosts []*host) [reasons]int {
	var n [reasons]int
	for _, s := range m.segments {
		n[m.reason(s, hosts)]++
	}
	n[beyondLimit] += m.beyond
	return n
}

// kindOf returns what a segment is called.
func kindOf(s *capture.Segment) string {
	return cmp.Or(map[bool]string{true: "RST"}[s.Flags&capture.RST != 0], "FIN")
}
