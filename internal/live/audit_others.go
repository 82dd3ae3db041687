package live

import (
	"maps"
	"slices"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/netns"
	"github.com/closetrace/closetrace/internal/sink"
)

// Why the counters of a network namespace are not compared, besides the reasons of [netns.Readings].
const (
	unfound    = "it ended, or has no process or name here"
	lateFound  = "it was not found when tracing started"
	otherSpace = "another network namespace has its number now"
)

// finishOthers works out what moved in other network namespaces. It keeps those that had endings or whose audited
// counters moved.
func (c *counters) finishOthers() {
	if len(c.others) != 4 {
		return
	}
	spaces := c.Spaces() // that had endings
	all := append(slices.Collect(maps.Keys(c.others[3].Counters)), spaces...)
	slices.Sort(all)
	for _, inode := range slices.Compact(all) {
		if inode == c.Netns || len(c.those) > 0 && !slices.Contains(c.those, inode) {
			continue
		}
		if n := movedIn(inode, c.others); moved(n.Moved) || slices.Contains(spaces, inode) {
			c.Others = append(c.Others, n)
		}
	}
}

// movedIn returns how far the counters of a network namespace moved between four readings, and how far at the edges:
// before the second, which follows attaching, and after the third, which precedes detaching. Those of a namespace that
// appeared later began at 0.
func movedIn(inode uint32, readings []netns.Readings) sink.NetnsCounters {
	n := sink.NetnsCounters{Netns: inode}
	var at [4]sink.Counters
	for i := range at {
		at[i] = readings[i].Counters[inode]
	}
	first, attached, detaching, last := at[0], at[1], at[2], at[3]
	switch {
	case last == nil:
		n.Impossible = whyFailed(readings[3], inode, unfound)
	case first != nil:
	case !readings[0].Complete || readings[0].Failed[inode] != "":
		n.Impossible = whyFailed(readings[0], inode, lateFound)
	default:
		n.New = true
	}
	if n.Impossible == "" && last.WentBack(first) {
		n.Impossible = otherSpace
	}
	if n.Impossible != "" {
		return n
	}
	n.Moved = last.Since(first)
	if detaching == nil || attached == nil && first != nil {
		n.Edges = maps.Clone(n.Moved) // any of it may have moved while programs were attached or detached
		return n
	}
	n.Edges = attached.Since(first)
	for name, by := range last.Since(detaching) {
		n.Edges[name] += by
	}
	return n
}

func whyFailed(r netns.Readings, inode uint32, otherwise string) string {
	if why := r.Failed[inode]; why != "" {
		return why
	}
	return otherwise
}

// moved reports whether a counter that the audit shows has moved.
func moved(c sink.Counters) bool {
	for i := range events.Counters {
		if c[i.String()] > 0 {
			return true
		}
	}
	return c.Dropped()
}
