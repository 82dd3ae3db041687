package why

import (
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// Limits of what is kept, some 15 MB in all. Of more, the newest is.
const (
	maxPairs   = 128
	maxPerPair = 128
	maxRecent  = 4096
)

// Collector keeps the endings that match a query. It is a sink of endings.
type Collector struct {
	Query Query
	// OnMatch is called for each ending that matches. It may be nil.
	OnMatch func()

	header events.Header // of what is read last
	best   matches
	kept
}

// kept is the endings that are kept: those of some pairs, and the newest others.
type kept struct {
	pairs   map[pair][]*events.Ending
	queue   []pair           // of pairs, by their first ending
	recent  []*events.Ending // a ring of those that did not match, until something makes their pair one of pairs
	next    int
	most    int // pairs
	dropped int // endings that matched and were not kept
}

func newKept(most, recent int) kept {
	return kept{pairs: map[pair][]*events.Ending{}, recent: make([]*events.Ending, 0, recent), most: most}
}

// New returns a collector.
func New(q Query) *Collector {
	if q.PID == 0 {
		return &Collector{Query: q, kept: newKept(maxPairs, 0)}
	}
	return &Collector{Query: q, kept: newKept(maxPairs, maxRecent)}
}

// Begin takes the header of the endings that follow.
func (c *Collector) Begin(h events.Header) { c.header = h }

// Write takes an ending.
func (c *Collector) Write(e *events.Ending) error {
	if !isConnected(e) {
		return nil
	}
	p := pairOf(e)
	found := c.matches(e, p)
	if found == 0 || found < c.best {
		c.remember(e)
		return nil
	}
	if found > c.best { // what named only a part was not meant
		c.best, c.queue, c.dropped = found, nil, 0
		clear(c.pairs)
	}
	if _, known := c.pairs[p]; !known {
		c.begin(p)
	}
	c.keep(p, e)
	if c.OnMatch != nil {
		c.OnMatch()
	}
	return nil
}

// Flush does nothing.
func (c *Collector) Flush() error { return nil }

// Close does nothing.
func (c *Collector) Close() error { return nil }

// Found returns the number of connections that match, at most as many as are kept.
func (c *Collector) Found() int { return len(c.connections()) }

// matches returns how well an ending of a pair matches. A pair of which one ending is of the process matches as a
// whole.
func (c *Collector) matches(e *events.Ending, p pair) matches {
	named := byBothEnds
	if len(c.Query.Line.Endpoints) > 0 {
		named = max(c.Query.of(p), c.Query.of(pairWith(e, e.Remote)))
	}
	if _, known := c.pairs[p]; known {
		named = max(named, c.best) // where addresses are translated, only one end may have those of the query
	}
	if named < c.Query.least() {
		return 0
	}
	if c.Query.PID == 0 {
		return named
	}
	if _, known := c.pairs[p]; !known && !hasPID(e, c.Query.PID) {
		return 0
	}
	return named
}

// begin adds a pair, with its endings among the recent ones. Of too many it forgets the oldest.
func (c *kept) begin(p pair) {
	if len(c.queue) == c.most {
		c.dropped += len(c.pairs[c.queue[0]])
		delete(c.pairs, c.queue[0])
		c.queue = c.queue[1:]
	}
	c.queue = append(c.queue, p)
	c.pairs[p] = nil
	for i := range c.recent {
		if e := c.recent[(c.next+i)%len(c.recent)]; pairOf(e) == p {
			c.keep(p, e)
		}
	}
}

// remember keeps an ending for the case that its pair is kept later.
func (c *kept) remember(e *events.Ending) {
	switch {
	case cap(c.recent) == 0:
	case len(c.recent) < cap(c.recent):
		copied := *e
		c.recent = append(c.recent, &copied)
	default:
		*c.recent[c.next] = *e
		c.next = (c.next + 1) % len(c.recent)
	}
}

// keep adds an ending to a pair, unless it is there: a recording may be read twice.
func (c *kept) keep(p pair, e *events.Ending) {
	all := c.pairs[p]
	if slices.ContainsFunc(all, func(k *events.Ending) bool {
		return k.MonoNS == e.MonoNS && k.Path == e.Path && k.Local == e.Local && k.Time.Equal(e.Time)
	}) {
		return
	}
	if len(all) == maxPerPair {
		c.dropped++
		all = append(all[:0], all[1:]...)
	}
	copied := *e // which is valid during Write only
	c.pairs[p] = append(all, &copied)
}
