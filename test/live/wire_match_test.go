//go:build linux

package live

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// matchResult compares segments with endings: one ending of the sender explains
// each FIN or RST on the wire, and each ending that reports one has its segment.
type matchResult struct {
	explained      int
	unexplained    []segment
	withoutSegment []reportedSegment
	unseen         int // left out by excuse
}

// reportedSegment is a FIN or a RST that was sent, by an ending.
type reportedSegment struct {
	ending *events.Ending
	flag   uint8
	// mayBeUnsent: the FIN had not left at the end. It will later, or
	// never, if a RST comes before.
	mayBeUnsent bool
}

// maxDelay is how much later than its segment an ending may be. Where a
// tracepoint reports a RST after it was sent, the task may lose its CPU in
// between.
const maxDelay = uint64(100 * time.Millisecond)

func (m matchResult) seen() int      { return m.explained + len(m.unexplained) }
func (m matchResult) complete() bool { return len(m.unexplained)+len(m.withoutSegment) == 0 }

// withoutReplies leaves out RSTs in reply that no ending explains: not every hook
// reports them.
func (m matchResult) withoutReplies() matchResult {
	var left []segment
	for _, s := range m.unexplained {
		if s.inReply() {
			m.unseen++
		} else {
			left = append(left, s)
		}
	}
	m.unexplained = left
	return m
}

// score returns "explained/seen" and the number of endings without their segment.
func (m matchResult) score() string {
	score := fmt.Sprintf("%d/%d", m.explained, m.seen())
	if n := len(m.withoutSegment); n > 0 {
		score += fmt.Sprintf(", %d reported and not on the wire", n)
	}
	if m.unseen > 0 {
		score += fmt.Sprintf(", and %d RSTs in reply or of netfilter, which this mode leaves out on this kernel", m.unseen)
	}
	return score
}

// String returns the score and what does not match.
func (m matchResult) String() string {
	var b strings.Builder
	b.WriteString(m.score())
	for _, s := range m.unexplained {
		fmt.Fprintf(&b, "\n\tno ending for  %v", s)
	}
	for _, c := range m.withoutSegment {
		fmt.Fprintf(&b, "\n\tno %s for  %s", flagName(c.flag), describe(c.ending))
	}
	return b.String()
}

// senders returns the ends of connections that do not match.
func (m matchResult) senders() map[key]bool {
	of := map[key]bool{}
	for _, s := range m.unexplained {
		of[s.sender()] = true
	}
	for _, c := range m.withoutSegment {
		of[wireAddresses(c.ending)] = true
	}
	return of
}

func flagName(flag uint8) string {
	if flag == flagFIN {
		return "FIN"
	}
	return "RST"
}

func describe(e *events.Ending) string {
	return fmt.Sprintf(
		"%d %v > %v %s %s>%s fin %v rst %v unsent %d unacked %d fin unsent %v: %s",
		e.MonoNS,
		e.Local,
		e.Remote,
		e.Path,
		e.Before,
		e.After,
		e.FIN,
		e.RST,
		e.Evidence.UnsentBytes,
		e.Evidence.UnackedBytes,
		e.Evidence.FINUnsent,
		e.Cause,
	)
}

// flow is the FINs, or the RSTs, of one end of a connection, and of connections
// that had the same addresses before and after it.
type flow struct {
	end  key
	flag uint8
}

// match finds the ending of each segment, one sender at a time, in the order of
// time.
func match(segments []segment, endings []events.Ending) matchResult {
	expected := map[flow][]reportedSegment{}
	for i := range endings {
		e := &endings[i]
		end := wireAddresses(e)
		if e.FIN {
			f := flow{end, flagFIN}
			expected[f] = append(expected[f], reportedSegment{e, flagFIN, e.Evidence.FINUnsent})
		}
		if e.RST {
			f := flow{end, flagRST}
			expected[f] = append(expected[f], reportedSegment{e, flagRST, false})
		}
	}
	for _, of := range expected {
		slices.SortStableFunc(of, func(a, b reportedSegment) int { return cmp.Compare(a.ending.MonoNS, b.ending.MonoNS) })
	}
	segments = withoutRetransmissions(segments)
	// Those in reply come last: if any has no ending, it is one of them.
	slices.SortStableFunc(segments, func(a, b segment) int { return cmp.Compare(matchOrder(a), matchOrder(b)) })
	var m matchResult
	for _, s := range segments {
		f := flow{s.sender(), s.flags & (flagFIN | flagRST)}
		i := bestMatch(s, expected[f])
		if i < 0 {
			m.unexplained = append(m.unexplained, s)
			continue
		}
		m.explained++
		expected[f] = slices.Delete(expected[f], i, i+1)
	}
	for _, left := range expected {
		for _, c := range left {
			if !c.mayBeUnsent {
				m.withoutSegment = append(m.withoutSegment, c)
			}
		}
	}
	slices.SortFunc(
		m.withoutSegment,
		func(a, b reportedSegment) int { return cmp.Compare(a.ending.MonoNS, b.ending.MonoNS) },
	)
	return m
}

func matchOrder(s segment) int {
	if s.inReply() {
		return 1
	}
	return 0
}

// bestMatch returns the index of the report that a segment belongs to, or -1. It
// prefers reports that must have a segment, and of these the latest, which leaves
// most for earlier segments.
func bestMatch(s segment, expected []reportedSegment) int {
	best := -1
	for i, c := range expected {
		if c.ending.MonoNS > s.sentNS+maxDelay {
			continue
		}
		if best < 0 || !c.mayBeUnsent || expected[best].mayBeUnsent {
			best = i
		}
	}
	return best
}

// withoutRetransmissions leaves out retransmitted FINs.
func withoutRetransmissions(segments []segment) []segment {
	type fin struct {
		sender key
		seq    uint32
	}
	seen := map[fin]bool{}
	var kept []segment
	for _, s := range segments {
		if s.flags&flagFIN != 0 {
			f := fin{s.sender(), s.finSeq()}
			if seen[f] {
				continue
			}
			seen[f] = true
		}
		kept = append(kept, s)
	}
	return kept
}

// wireAddresses returns the addresses of an ending as they are on the wire.
func wireAddresses(e *events.Ending) key { return key{unmapped(e.Local), unmapped(e.Remote)} }

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func TestMatch(t *testing.T) {
	const millisecond = uint64(time.Millisecond)
	segmentAt := func(ms uint64, flags uint8, seq uint32) segment {
		return segment{
			sentNS: ms * millisecond, src: netip.MustParseAddrPort("127.0.0.1:1"), dst: netip.MustParseAddrPort("127.0.0.1:2"),
			flags: flags, seq: seq,
		}
	}
	back := func(s segment) segment { s.src, s.dst = s.dst, s.src; return s }
	withData := func(s segment, n uint32) segment { s.payload = n; return s }
	ending := func(ms uint64, change func(*events.Ending)) events.Ending {
		e := events.Ending{
			MonoNS: ms * millisecond, DurationNS: 1,
			Local: netip.MustParseAddrPort("127.0.0.1:1"), Remote: netip.MustParseAddrPort("127.0.0.1:2"),
		}
		change(&e)
		return e
	}
	fin := func(e *events.Ending) { e.FIN = true }
	rst := func(e *events.Ending) { e.RST = true }
	both := func(e *events.Ending) { e.FIN, e.RST = true, true }
	nothing := func(*events.Ending) {}
	unsent := func(e *events.Ending) { e.FIN, e.Evidence.FINUnsent = true, true }
	pushed := func(e *events.Ending) { e.FIN, e.Evidence.UnsentBytes = true, 1 }
	mapped := func(e *events.Ending) {
		e.FIN = true
		e.Local, e.Remote = netip.MustParseAddrPort("[::ffff:127.0.0.1]:1"), netip.MustParseAddrPort("[::ffff:127.0.0.1]:2")
	}
	for _, tt := range []struct {
		name                string
		segments            []segment
		endings             []events.Ending
		explained, seen, no int // no: endings without their segment
	}{
		{"nothing", nil, nil, 0, 0, 0},
		{"FIN", []segment{segmentAt(2, flagFIN|flagACK, 7)}, []events.Ending{ending(1, fin)}, 1, 1, 0},
		{"v4-mapped", []segment{segmentAt(2, flagFIN, 7)}, []events.Ending{ending(1, mapped)}, 1, 1, 0},
		{"RST", []segment{segmentAt(2, flagRST, 7)}, []events.Ending{ending(1, rst)}, 1, 1, 0},
		{"FIN and RST of one ending", []segment{segmentAt(2, flagFIN, 7), segmentAt(3, flagRST, 8)}, []events.Ending{ending(1, both)}, 2, 2, 0},
		{"an ending of silence", nil, []events.Ending{ending(1, nothing)}, 0, 0, 0},
		{"no ending", []segment{segmentAt(2, flagFIN, 7)}, nil, 0, 1, 0},
		{"the other end's", []segment{back(segmentAt(2, flagFIN, 7))}, []events.Ending{ending(1, fin)}, 0, 1, 1},
		{"RST is no FIN", []segment{segmentAt(2, flagRST, 7)}, []events.Ending{ending(1, fin)}, 0, 1, 1},
		{"no segment", nil, []events.Ending{ending(1, both)}, 0, 0, 2},
		{"two RSTs, one ending", []segment{segmentAt(2, flagRST, 7), segmentAt(3, flagRST, 7)}, []events.Ending{ending(1, rst)}, 1, 2, 0},
		{"one RST, two endings", []segment{segmentAt(2, flagRST, 7)}, []events.Ending{ending(1, rst), ending(1, rst)}, 1, 1, 1},
		{"FIN again", []segment{segmentAt(2, flagFIN, 7), segmentAt(9, flagFIN, 7)}, []events.Ending{ending(1, fin)}, 1, 1, 0},
		{"FIN again, with data", []segment{segmentAt(2, flagFIN, 7), withData(segmentAt(9, flagFIN, 4), 3)}, []events.Ending{ending(1, fin)}, 1, 1, 0},
		{"another FIN", []segment{segmentAt(2, flagFIN, 7), segmentAt(9, flagFIN, 4)}, []events.Ending{ending(1, fin)}, 1, 2, 0},
		{"the port again", []segment{segmentAt(2, flagFIN, 7), segmentAt(2002, flagFIN, 99)}, []events.Ending{ending(1, fin), ending(2001, fin)}, 2, 2, 0},
		{"an ending after the segment", []segment{segmentAt(2, flagFIN, 7)}, []events.Ending{ending(2001, fin)}, 0, 1, 1},
		{"an ending just after the segment", []segment{segmentAt(2, flagRST, 7)}, []events.Ending{ending(3, rst)}, 1, 1, 0},
		{"FIN queued, not sent", nil, []events.Ending{ending(1, unsent)}, 0, 0, 0},
		{"FIN queued, sent later", []segment{segmentAt(900, flagFIN, 7)}, []events.Ending{ending(1, unsent)}, 1, 1, 0},
		{"FIN pushed what was unsent", nil, []events.Ending{ending(1, pushed)}, 0, 0, 1},
		{"a reply inside a call that is not reported", []segment{segmentAt(2, flagRST, 7), segmentAt(3, flagRST|flagACK, 7)}, []events.Ending{ending(1, rst)}, 1, 2, 0},
		{"the sure one is preferred", []segment{segmentAt(9, flagFIN, 7)}, []events.Ending{ending(1, fin), ending(2, unsent)}, 1, 1, 0},
		{"the sure one, after", []segment{segmentAt(9, flagFIN, 7)}, []events.Ending{ending(1, unsent), ending(2, fin)}, 1, 1, 0},
	} {
		m := match(tt.segments, tt.endings)
		if excused := m.withoutReplies(); len(excused.unexplained)+excused.unseen != len(m.unexplained) {
			t.Errorf("%s: %v became %v", tt.name, m, excused)
		}
		if m.explained != tt.explained || m.seen() != tt.seen || len(m.withoutSegment) != tt.no {
			t.Errorf("%s: %v", tt.name, m)
		}
	}
}
