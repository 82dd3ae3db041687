package annotate

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
	"time"

	"github.com/closetrace/closetrace/internal/capture"
	"github.com/closetrace/closetrace/internal/events"
)

// maxSegments limits the FINs and RSTs that are looked for, some 250 MB in all.
const maxSegments = 1 << 20

// segment is a FIN or a RST of the capture, with the best ending so far.
type segment struct {
	capture.Segment
	fit     fit
	tied    bool // another ending fits as well
	away    time.Duration
	comment string
	sender  netip.AddrPort // Local of the ending, which tells one connection from another
}

// matcher finds the endings of segments.
type matcher struct {
	segments []*segment
	beyond   int // over the limit

	byEnds   []*segment // by source, destination and number
	byNumber []*segment // by number
	marks    map[ends]mark
	comments map[string]string // each text once
}

// ends are the addresses of a segment, or of an ending as its sender.
type ends struct{ src, dst netip.AddrPort }

// mark is what the recordings have of an end of a connection in the capture.
type mark struct{ hasEnding bool }

// add adds a segment, before any matching.
func (m *matcher) add(s *capture.Segment) {
	if len(m.segments) == maxSegments {
		m.beyond++
		return
	}
	m.segments = append(m.segments, &segment{Segment: *s})
}

// index prepares the matching.
func (m *matcher) index() {
	m.marks, m.comments = map[ends]mark{}, map[string]string{}
	m.byEnds, m.byNumber = slices.Clone(m.segments), slices.Clone(m.segments)
	slices.SortStableFunc(m.byEnds, func(a, b *segment) int {
		return cmp.Or(compareEnds(a, ends{b.Src, b.Dst}), cmp.Compare(number(&a.Segment), number(&b.Segment)))
	})
	slices.SortStableFunc(m.byNumber, func(a, b *segment) int {
		return cmp.Compare(number(&a.Segment), number(&b.Segment))
	})
}

func compareEnds(s *segment, e ends) int { return cmp.Or(s.Src.Compare(e.src), s.Dst.Compare(e.dst)) }

// between returns the segments of an end.
func (m *matcher) between(e ends) []*segment {
	first, found := slices.BinarySearchFunc(m.byEnds, e, compareEnds)
	if !found {
		return nil
	}
	rest := m.byEnds[first:]
	return rest[:sort.Search(len(rest), func(i int) bool { return compareEnds(rest[i], e) > 0 })]
}

// narrowed returns those of segments, which are sorted by number, that have one of two numbers; 0 is none.
func narrowed(segments []*segment, numbers [2]uint32) []*segment {
	compare := func(s *segment, n uint32) int { return cmp.Compare(number(&s.Segment), n) }
	var found []*segment
	for i, n := range numbers {
		if n == 0 || i > 0 && n == numbers[0] {
			continue
		}
		first, _ := slices.BinarySearchFunc(segments, n, compare)
		rest := segments[first:]
		end := sort.Search(len(rest), func(i int) bool { return compare(rest[i], n) > 0 })
		if rest = rest[:min(end, maxCandidates)]; found == nil {
			found = rest
		} else {
			found = slices.Concat(found, rest)
		}
	}
	return found
}

// maxCandidates limits how many segments one ending is compared with. A flood with one sequence number has more, and
// the endings of such a flood cannot be told apart.
const maxCandidates = 4096

// candidates calls yield for each segment that fits an expected one, but for its time.
func (m *matcher) candidates(x *expected, yield func(*segment, fit)) {
	same := m.between(ends{x.src, x.dst})
	if len(same) > maxCandidates {
		same = narrowed(same, x.numbers())
	}
	for _, s := range same {
		if flagOf(&s.Segment) != x.flag || !s.HasTime {
			continue
		}
		if how := x.match(&s.Segment); how != noFit {
			yield(s, how)
		}
	}
	for _, s := range narrowed(m.byNumber, x.numbers()) {
		isOwn := s.Src == x.src && s.Dst == x.dst || s.Src == x.dst && s.Dst == x.src
		if isOwn || flagOf(&s.Segment) != x.flag || !s.HasTime {
			continue
		}
		if how := x.matchTranslated(&s.Segment); how != noFit {
			yield(s, how)
		}
	}
}

// take gives a segment an ending that fits it, unless another one fits better.
func (m *matcher) take(s *segment, x *expected, how fit, delta time.Duration, comment func(*events.Ending) string) {
	away, sender := delta.Abs(), unmapped(x.ending.Local)
	switch {
	case s.fit != noFit && how > s.fit:
		return
	case how == s.fit:
		switch {
		case how == exact || how == within: // the nearest one
		case sender != s.sender, how == byTime && comment(x.ending) != s.comment:
			s.tied = true
		}
		if away >= s.away {
			return
		}
	default:
		s.tied = false
	}
	text := comment(x.ending)
	if known, ok := m.comments[text]; ok {
		text = known
	} else if len(m.comments) < maxSegments {
		m.comments[text] = text
	}
	s.fit, s.away, s.sender, s.comment = how, away, sender, text
}

// note keeps that the recordings have an ending of an end of a connection in the capture.
func (m *matcher) note(e *events.Ending) {
	local, remote := unmapped(e.Local), unmapped(e.Remote)
	if end := (ends{local, remote}); !m.marks[end].hasEnding && len(m.between(end)) > 0 {
		m.marks[end] = mark{hasEnding: true}
	}
}

// finish drops what is ambiguous, and gives retransmissions of a FIN what the FIN has.
func (m *matcher) finish() {
	for _, s := range m.segments {
		if s.tied {
			s.comment = ""
		}
	}
	var last *segment // with a comment
	for _, order := range []func(int) int{
		func(i int) int { return i }, func(i int) int { return len(m.byEnds) - 1 - i },
	} {
		last = nil
		for i := range m.byEnds {
			s := m.byEnds[order(i)]
			if s.comment != "" {
				last = s
			} else if last != nil && isRetransmission(s, last) {
				s.comment = last.comment
			}
		}
	}
}

// isRetransmission reports whether two segments carry the same FIN.
func isRetransmission(s, of *segment) bool {
	return s.Src == of.Src && s.Dst == of.Dst && flagOf(&s.Segment) == capture.FIN && flagOf(&of.Segment) == capture.FIN &&
		!s.Fragment && !of.Fragment && s.HasTime && s.FINSeq() == of.FINSeq() && !s.tied &&
		s.Time.Sub(of.Time).Abs() <= retransmitting
}
