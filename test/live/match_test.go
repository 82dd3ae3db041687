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

// matching is how segments and endings go together: each FIN or RST on the wire
// is explained by one ending of its sender, and each ending that tells of one
// has its segment.
type matching struct {
	explained   int
	unexplained []segment
	phantoms    []claim
	unseen      int // left out by excuse
}

// claim is what an ending tells of the wire: that a FIN or a RST left.
type claim struct {
	ending *events.Ending
	flag   uint8
	// unsure: the ending says that the FIN has not left yet. It will later, or
	// never, if a RST comes before.
	unsure bool
}

// slack is how much later than its segment an ending may be: where a RST is
// told by a tracepoint that comes after it was sent, a task may lose its CPU in
// between.
const slack = uint64(100 * time.Millisecond)

func (m matching) seen() int   { return m.explained + len(m.unexplained) }
func (m matching) whole() bool { return len(m.unexplained)+len(m.phantoms) == 0 }

// excuse leaves out what is not explained and was sent in reply: not every
// tracer sees that.
func (m matching) excuse() matching {
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

// score is "explained/seen", and what is told without being on the wire.
func (m matching) score() string {
	score := fmt.Sprintf("%d/%d", m.explained, m.seen())
	if n := len(m.phantoms); n > 0 {
		score += fmt.Sprintf(", %d told and not on the wire", n)
	}
	if m.unseen > 0 {
		score += fmt.Sprintf(", and %d RSTs in reply, which this kernel's tracepoint does not tell", m.unseen)
	}
	return score
}

// String is the score and what does not match.
func (m matching) String() string {
	var b strings.Builder
	b.WriteString(m.score())
	for _, s := range m.unexplained {
		fmt.Fprintf(&b, "\n\tno ending for  %v", s)
	}
	for _, c := range m.phantoms {
		fmt.Fprintf(&b, "\n\tno %s for  %s", flagName(c.flag), describe(c.ending))
	}
	return b.String()
}

// senders are those of what does not match.
func (m matching) senders() map[key]bool {
	of := map[key]bool{}
	for _, s := range m.unexplained {
		of[s.sender()] = true
	}
	for _, c := range m.phantoms {
		of[sides(c.ending)] = true
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
	return fmt.Sprintf("%d %v > %v %s %s>%s fin %v rst %v unsent %d unacked %d fin unsent %v: %s", e.MonoNS, e.Local, e.Remote,
		e.Path, e.Before, e.After, e.FIN, e.RST, e.Evidence.UnsentBytes, e.Evidence.UnackedBytes, e.Evidence.FINUnsent, e.Cause)
}

// stream is the FINs, or the RSTs, of one end of a connection, and of others
// that had the same addresses before and after it.
type stream struct {
	end  key
	flag uint8
}

// match brings segments and endings together, one sender at a time, in the
// order in which they came.
func match(segments []segment, endings []events.Ending) matching {
	claims := map[stream][]claim{}
	for i := range endings {
		e := &endings[i]
		end := sides(e)
		if e.FIN {
			at := stream{end, flagFIN}
			claims[at] = append(claims[at], claim{e, flagFIN, e.Evidence.FINUnsent})
		}
		if e.RST {
			at := stream{end, flagRST}
			claims[at] = append(claims[at], claim{e, flagRST, false})
		}
	}
	for _, of := range claims {
		slices.SortStableFunc(of, func(a, b claim) int { return cmp.Compare(a.ending.MonoNS, b.ending.MonoNS) })
	}
	segments = once(segments)
	// Those in reply come last: if any has no ending, it is one of them.
	slices.SortStableFunc(segments, func(a, b segment) int { return cmp.Compare(rank(a), rank(b)) })
	var m matching
	for _, s := range segments {
		at := stream{s.sender(), s.flags & (flagFIN | flagRST)}
		i := explainer(s, claims[at])
		if i < 0 {
			m.unexplained = append(m.unexplained, s)
			continue
		}
		m.explained++
		claims[at] = slices.Delete(claims[at], i, i+1)
	}
	for _, left := range claims {
		for _, c := range left {
			if !c.unsure {
				m.phantoms = append(m.phantoms, c)
			}
		}
	}
	slices.SortFunc(m.phantoms, func(a, b claim) int { return cmp.Compare(a.ending.MonoNS, b.ending.MonoNS) })
	return m
}

func rank(s segment) int {
	if s.inReply() {
		return 1
	}
	return 0
}

// explainer picks the claim that a segment goes with, or -1: the latest, which
// leaves most to earlier segments, and rather one that must have a segment.
func explainer(s segment, claims []claim) int {
	best := -1
	for i, c := range claims {
		if c.ending.MonoNS > s.at+slack {
			continue
		}
		if best < 0 || !c.unsure || claims[best].unsure {
			best = i
		}
	}
	return best
}

// once leaves retransmitted FINs out.
func once(segments []segment) []segment {
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

// sides are the addresses of an ending as they are on the wire.
func sides(e *events.Ending) key { return key{unmapped(e.Local), unmapped(e.Remote)} }

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func TestMatch(t *testing.T) {
	const ms = uint64(time.Millisecond)
	at := func(at uint64, flags uint8, seq uint32) segment {
		return segment{
			at: at * ms, src: netip.MustParseAddrPort("127.0.0.1:1"), dst: netip.MustParseAddrPort("127.0.0.1:2"),
			flags: flags, seq: seq,
		}
	}
	back := func(s segment) segment { s.src, s.dst = s.dst, s.src; return s }
	withData := func(s segment, n uint32) segment { s.payload = n; return s }
	ending := func(at uint64, change func(*events.Ending)) events.Ending {
		e := events.Ending{
			MonoNS: at * ms, DurationNS: 1,
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
		{"FIN", []segment{at(2, flagFIN|flagACK, 7)}, []events.Ending{ending(1, fin)}, 1, 1, 0},
		{"v4-mapped", []segment{at(2, flagFIN, 7)}, []events.Ending{ending(1, mapped)}, 1, 1, 0},
		{"RST", []segment{at(2, flagRST, 7)}, []events.Ending{ending(1, rst)}, 1, 1, 0},
		{"FIN and RST of one ending", []segment{at(2, flagFIN, 7), at(3, flagRST, 8)}, []events.Ending{ending(1, both)}, 2, 2, 0},
		{"an ending of silence", nil, []events.Ending{ending(1, nothing)}, 0, 0, 0},
		{"no ending", []segment{at(2, flagFIN, 7)}, nil, 0, 1, 0},
		{"the other end's", []segment{back(at(2, flagFIN, 7))}, []events.Ending{ending(1, fin)}, 0, 1, 1},
		{"RST is no FIN", []segment{at(2, flagRST, 7)}, []events.Ending{ending(1, fin)}, 0, 1, 1},
		{"no segment", nil, []events.Ending{ending(1, both)}, 0, 0, 2},
		{"two RSTs, one ending", []segment{at(2, flagRST, 7), at(3, flagRST, 7)}, []events.Ending{ending(1, rst)}, 1, 2, 0},
		{"one RST, two endings", []segment{at(2, flagRST, 7)}, []events.Ending{ending(1, rst), ending(1, rst)}, 1, 1, 1},
		{"FIN again", []segment{at(2, flagFIN, 7), at(9, flagFIN, 7)}, []events.Ending{ending(1, fin)}, 1, 1, 0},
		{"FIN again, with data", []segment{at(2, flagFIN, 7), withData(at(9, flagFIN, 4), 3)}, []events.Ending{ending(1, fin)}, 1, 1, 0},
		{"another FIN", []segment{at(2, flagFIN, 7), at(9, flagFIN, 4)}, []events.Ending{ending(1, fin)}, 1, 2, 0},
		{"the port again", []segment{at(2, flagFIN, 7), at(2002, flagFIN, 99)}, []events.Ending{ending(1, fin), ending(2001, fin)}, 2, 2, 0},
		{"an ending after the segment", []segment{at(2, flagFIN, 7)}, []events.Ending{ending(2001, fin)}, 0, 1, 1},
		{"an ending just after the segment", []segment{at(2, flagRST, 7)}, []events.Ending{ending(3, rst)}, 1, 1, 0},
		{"FIN queued, not sent", nil, []events.Ending{ending(1, unsent)}, 0, 0, 0},
		{"FIN queued, sent later", []segment{at(900, flagFIN, 7)}, []events.Ending{ending(1, unsent)}, 1, 1, 0},
		{"FIN pushed what was unsent", nil, []events.Ending{ending(1, pushed)}, 0, 0, 1},
		{"a reply inside a call that is not told", []segment{at(2, flagRST, 7), at(3, flagRST|flagACK, 7)}, []events.Ending{ending(1, rst)}, 1, 2, 0},
		{"the sure one is preferred", []segment{at(9, flagFIN, 7)}, []events.Ending{ending(1, fin), ending(2, unsent)}, 1, 1, 0},
		{"the sure one, after", []segment{at(9, flagFIN, 7)}, []events.Ending{ending(1, unsent), ending(2, fin)}, 1, 1, 0},
	} {
		m := match(tt.segments, tt.endings)
		if excused := m.excuse(); len(excused.unexplained)+excused.unseen != len(m.unexplained) {
			t.Errorf("%s: %v became %v", tt.name, m, excused)
		}
		if m.explained != tt.explained || m.seen() != tt.seen || len(m.phantoms) != tt.no {
			t.Errorf("%s: %v", tt.name, m)
		}
	}
}
