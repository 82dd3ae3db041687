package annotate

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/capture"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink"
)

// summary is the result of an annotation.
type summary struct {
	contents *capture.Contents
	hosts    []*host
	tally    [reasons]int
}

// score returns how many segments have a comment.
func (s *summary) score() string {
	total := 0
	for _, n := range s.tally {
		total += n
	}
	return fmt.Sprintf("%s of %s FINs and RSTs explained",
		events.Grouped(uint64(s.tally[explained])), events.Grouped(uint64(total)))
}

// comments returns what is added to the capture.
func (s *summary) comments(m *matcher, version string) capture.Comments {
	var recorded []string
	for _, h := range s.hosts {
		recorded = append(recorded, fmt.Sprintf("%s, kernel %s, %s", h.name(), h.header.Kernel, h.header.Attach))
	}
	return capture.Comments{
		Program: "closetrace " + version,
		File:    cut(prefix + version + "; " + s.score() + "; recorded on " + strings.Join(recorded, "; on ")),
		Packet: func(number int64) string {
			at, found := slices.BinarySearchFunc(m.segments, number, func(s *segment, number int64) int {
				return cmp.Compare(s.Packet, number)
			})
			if !found {
				return ""
			}
			return m.segments[at].comment
		},
	}
}

// notableOffset is from which offset on the clocks are said to differ.
const notableOffset = 10 * time.Millisecond

// print prints how many segments have a comment, why the others have none, and what else matters for that.
func (s *summary) print(w io.Writer) {
	fmt.Fprintf(w, "closetrace: %s\n", s.score())
	for why := explained + 1; why < reasons; why++ {
		if n := s.tally[why]; n > 0 {
			fmt.Fprintf(w, "closetrace: %s without a comment: %s\n", events.Grouped(uint64(n)), reasonTexts[why])
		}
	}
	for _, h := range s.hosts {
		if h.offset.Abs() >= notableOffset {
			direction := "behind"
			if h.offset > 0 {
				direction = "ahead of"
			}
			fmt.Fprintf(w, "closetrace: the capture's clock is %v %s that of %s (median of %s)\n",
				h.offset.Abs().Round(time.Millisecond), direction, sink.OneLine(h.name()),
				events.Quantity(uint64(len(h.pairs)), "pair", "pairs"))
		}
	}
	if n := s.contents.Cut; n > 0 {
		fmt.Fprintf(w, "closetrace: %s captured only up to before the TCP flags\n",
			events.Quantity(uint64(n), "packet was", "packets were"))
	}
	for _, kind := range slices.Sorted(maps.Keys(s.contents.Unread)) {
		what := fmt.Sprintf("of link type %d", kind)
		if kind < 0 {
			what = "of an interface that is not described"
		}
		fmt.Fprintf(w, "closetrace: %s not looked into: %s\n",
			events.Quantity(uint64(s.contents.Unread[kind]), "packet was", "packets were"), what)
	}
}

// list prints the segments that have no comment, and why.
func (m *matcher) list(w io.Writer, hosts []*host) {
	for _, s := range m.segments {
		if why := m.reason(s, hosts); why != explained {
			fmt.Fprintf(w, "closetrace: packet %d: %s %v → %v, seq %d: %s\n",
				s.Packet, kindOf(&s.Segment), s.Src, s.Dst, s.Seq, reasonTexts[why])
		}
	}
}
