package why

import (
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// Limits of what is kept, some 15 MB in all. Of more, what the query asks for first is, then the newest.
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
	frozen bool // no pair is added any more
	again  int  // endings that matched since then
	whole  bool // each pair has all of its endings again
	kept
}

// kept is the endings that are kept: those of some pairs, and the newest others.
type kept struct {
	pairs   map[pair][]*events.Ending
	queue   []pair           // of pairs, by their first ending
	recent  []*events.Ending // a ring of those that did not match, until something makes their pair one of pairs
	next    int
	most    int                        // pairs
	worth   func([]*events.Ending) int // of a pair: that of the least is forgotten first; nil: all are worth 0
	evicted bool                       // a pair was forgotten. Another may be one that came back without what it had.
	dropped int                        // endings that matched and were not kept
}

func newKept(most, recent int) kept {
	return kept{pairs: map[pair][]*events.Ending{}, recent: make([]*events.Ending, 0, recent), most: most}
}

// New returns a collector.
func New(q Query) *Collector {
	recent := 0
	if q.PID != 0 {
		recent = maxRecent
	}
	c := &Collector{Query: q, kept: newKept(maxPairs, recent)}
	if q.Line.Errno != "" || !q.Line.Time.IsZero() {
		c.worth = c.Query.worth
	}
	return c
}

// Evicted reports whether a pair of addresses was forgotten for another one. If what was read can be read again, it
// should be, after [Collector.Freeze]: a pair that came back lacks what it had before.
func (c *Collector) Evicted() bool { return c.evicted }

// Freeze keeps the pairs of addresses as they are. What is read then completes them.
func (c *Collector) Freeze() { c.frozen, c.again = true, 0 }

// Complete says that everything was read again since [Collector.Freeze].
func (c *Collector) Complete() { c.whole = true }

// isCut reports whether a connection may lack endings that were seen.
func (c *Collector) isCut() bool { return c.evicted && !c.whole }

// notKept returns how many endings matched and are not kept. Those of a second reading are the same ones.
func (c *Collector) notKept() int {
	if !c.whole {
		return c.dropped
	}
	n := c.again
	for _, endings := range c.pairs {
		n -= len(endings)
	}
	return max(0, n)
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
	c.again++
	if found > c.best && !c.frozen { // what named only a part was not meant
		c.best, c.queue, c.dropped, c.evicted = found, nil, 0, false
		clear(c.pairs)
	}
	if _, known := c.pairs[p]; !known {
		if c.frozen {
			return nil
		}
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

// begin adds a pair, with its endings among the recent ones. Of too many it forgets one.
func (c *kept) begin(p pair) {
	if len(c.queue) == c.most {
		i := c.least()
		c.dropped += len(c.pairs[c.queue[i]])
		c.evicted = true
		delete(c.pairs, c.queue[i])
		c.queue = slices.Delete(c.queue, i, i+1)
	}
	c.queue = append(c.queue, p)
	c.pairs[p] = nil
	for i := range c.recent {
		if e := c.recent[(c.next+i)%len(c.recent)]; pairOf(e) == p {
			c.keep(p, e)
		}
	}
}

// least returns the place in the queue of the oldest of the pairs that are worth the least.
func (c *kept) least() int {
	if c.worth == nil {
		return 0
	}
	least, at := 0, 0
	for i, p := range c.queue {
		worth := c.worth(c.pairs[p])
		if worth == 0 {
			return i // most pairs are: the others need not be looked at
		}
		if i == 0 || worth < least {
			least, at = worth, i
		}
	}
	return at
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
