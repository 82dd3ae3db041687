package why

import (
	"cmp"
	"slices"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/ladder"
	"github.com/closetrace/closetrace/internal/sink"
)

// Limits of a sample, some 10 MB in all.
const (
	maxSampled    = 512 // pairs
	maxPerSampled = 32  // endings of a pair
	sampledOf     = 3   // pairs of a path, with and without the ending of the other end
)

// Sample keeps the endings of some connections for each path that deserves attention.
type Sample struct {
	kept
	taken       map[sampled]int
	connections []*connection // of the pairs; nil: not known
}

// sampled is what a pair was sampled for.
type sampled struct {
	path   events.Path
	joined bool // with the ending of the other end that caused it
}

// NewSample returns an empty sample.
func NewSample() *Sample {
	return &Sample{kept: newKept(maxSampled, maxRecent), taken: map[sampled]int{}}
}

// Add takes an ending, which is valid during the call only. One that does not count is kept for connections that
// others are an example of.
func (s *Sample) Add(e *events.Ending, counts bool) {
	if !isConnected(e) {
		return
	}
	p := pairOf(e)
	s.connections = nil
	if known, ok := s.pairs[p]; ok {
		if len(known) < maxPerSampled {
			s.keep(p, e)
		}
		return
	}
	of := sampled{e.Path, e.Peer != nil}
	if !counts || e.Severity() == events.Plain || s.taken[of] == sampledOf || len(s.pairs) == maxSampled {
		s.remember(e)
		return
	}
	s.taken[of]++
	s.begin(p)
	s.keep(p, e)
}

// Example is how one connection ended. Its sentences are in English and safe to print.
type Example struct {
	Cause  events.Path // that the others follow from
	Ladder *ladder.Model
	// Applications has a sentence for each end: what its application gets.
	Applications []string
	Reasons      []string
}

// Example returns the connection that shows a path best: as the cause, with both ends, observed. Nil if there is none.
func (s *Sample) Example(path events.Path) *Example {
	var best *connection
	var bestRank int
	for _, n := range s.all() {
		if rank := n.shows(path); rank > bestRank {
			best, bestRank = n, rank
		}
	}
	if best == nil {
		return nil
	}
	x := &Example{Cause: best.cause().Path, Ladder: ladder.New(best.endings)}
	for _, e := range best.ends() {
		x.Applications = append(x.Applications, sink.Tame(e.String()))
	}
	for _, text := range best.reasons() {
		x.Reasons = append(x.Reasons, sink.Tame(text))
	}
	return x
}

// all returns the connections, by time.
func (s *Sample) all() []*connection {
	if s.connections != nil {
		return s.connections
	}
	for _, endings := range s.pairs {
		s.connections = append(s.connections, split(endings)...)
	}
	slices.SortFunc(s.connections, func(x, y *connection) int {
		a, b := x.endings[0], y.endings[0]
		return cmp.Or(a.Time.Compare(b.Time), a.Local.Compare(b.Local), cmp.Compare(a.Netns, b.Netns))
	})
	return s.connections
}

// shows returns how well the connection shows a path, 0 if not at all.
func (n *connection) shows(path events.Path) int {
	has := func(e *events.Ending) bool { return e.Path == path && e.Severity() != events.Plain }
	if !slices.ContainsFunc(n.endings, has) {
		return 0
	}
	rank := 1
	if n.cause().Path == path {
		rank += 4
	}
	if ends := n.ends(); !ends[0].unseen && !ends[1].unseen {
		rank += 2
	}
	if !slices.ContainsFunc(n.endings, func(e *events.Ending) bool { return e.Doubt != "" }) {
		rank++
	}
	return rank
}
