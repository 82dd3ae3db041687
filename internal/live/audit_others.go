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

// movedIn returns how far the counters of a network namespace moved between four readings. Those of a namespace that
// appeared later began at 0.
func movedIn(inode uint32, readings []netns.Readings) sink.NetnsCounters {
	n := sink.NetnsCounters{Netns: inode}
	first, last := readings[0].Counters[inode], readings[3].Counters[inode]
	switch {
	case last == nil:
		n.Impossible = whyFailed(readings[3], inode, unfound)
	case first != nil:
	case !readings[0].Complete || readings[0].Failed[inode] != "":
		n.Impossible = whyFailed(readings[0], inode, lateFound)
	default:
		n.New = true
	}
	if n.Impossible == "" && wentBack(first, last) {
		n.Impossible = otherSpace
	}
	if n.Impossible != "" {
		return n
	}
	attached, detaching := readings[1].Counters[inode], readings[2].Counters[inode]
	if attached == nil {
		attached = first
	}
	if detaching == nil {
		detaching = last
	}
	n.Moved, n.Edges = difference(first, last), difference(first, attached)
	for name, by := range difference(detaching, last) {
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

// wentBack reports whether a counter that only grows has become less: the kernel reuses inode numbers.
func wentBack(from, to map[string]uint64) bool {
	for _, name := range []string{"TcpInSegs", "TcpOutSegs", "TcpOutRsts", "TcpActiveOpens", "TcpPassiveOpens"} {
		if to[name] < from[name] {
			return true
		}
	}
	return false
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
