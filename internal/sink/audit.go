package sink

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/closetrace/closetrace/internal/events"
)

// Audit compares the endings of network namespaces with the kernel's counters of these namespaces: an ending must
// explain every RST that the kernel counted.
//
// RSTs that TCP does not send, for example those of netfilter's REJECT, are not counted, also where they are reported.
type Audit struct {
	Netns uint32 // inode number of the namespace that is always compared
	// Impossible is why the audit of that namespace is skipped; empty if it is not.
	Impossible string
	// Moved is how far the counters moved from before attaching until after detaching, Edges the part of it while
	// attaching and detaching.
	Moved, Edges Counters
	// Others are other namespaces that had endings or whose counters moved.
	Others []NetnsCounters
	// Missing are the hooks that could not be attached.
	Missing []string
	// ByTracepoint: in tracepoint mode a kernel before 6.10 does not report RSTs without a socket.
	ByTracepoint bool

	spaces map[uint32]*explained
	last   *explained // of lastNetns, because most endings are of few namespaces
	lastNS uint32
	beyond uint64 // endings of namespaces beyond maxSpaces
}

// NetnsCounters is how far the counters of a network namespace moved during a run.
type NetnsCounters struct {
	Netns uint32
	// Impossible is why they were not read; empty if they were.
	Impossible   string
	New          bool // the namespace appeared during the run
	Moved, Edges Counters
}

// FiltersUncounted is why the audit is skipped in a run with filters of the kernel side. Only a verbose summary has it.
const FiltersUncounted = "kernel counters cannot be filtered by process, cgroup, port or address family"

// maxSpaces is the number of network namespaces whose endings are counted one by one.
const maxSpaces = 1024

// explained is what the endings of a network namespace explain.
type explained struct {
	endings, overflows uint64 // overflows: RSTs because an accept queue was full
	hasReply           bool   // a RST in reply without a socket was seen
	moved              events.Moved
}

// Add counts e.
func (a *Audit) Add(e *events.Ending) {
	x := a.last
	if x == nil || a.lastNS != e.Netns {
		if x = a.space(e.Netns); x == nil {
			a.beyond++
			return
		}
		a.last, a.lastNS = x, e.Netns
	}
	x.endings++
	switch e.Path {
	case events.ReplyNoSocket:
		x.hasReply = true
	case events.ReplyOverflow:
		x.overflows++
	}
	x.moved.Add(e)
}

// space returns the counts of a namespace, or nil if there are too many.
func (a *Audit) space(netns uint32) *explained {
	x := a.spaces[netns]
	if x != nil || len(a.spaces) >= maxSpaces {
		return x
	}
	if a.spaces == nil {
		a.spaces = make(map[uint32]*explained)
	}
	x = new(explained)
	a.spaces[netns] = x
	return x
}

// Spaces returns the network namespaces that had endings.
func (a *Audit) Spaces() []uint32 { return slices.Sorted(maps.Keys(a.spaces)) }

// Skip makes the audit compare nothing, for a reason.
func (a *Audit) Skip(why string) { a.Impossible, a.Others = cmp.Or(a.Impossible, why), nil }

// Only makes the audit compare these network namespaces, and reports whether it has the counters of all of them.
func (a *Audit) Only(spaces []uint32) bool {
	all := append([]NetnsCounters{{Netns: a.Netns, Impossible: a.Impossible, Moved: a.Moved, Edges: a.Edges}}, a.Others...)
	all = slices.DeleteFunc(all, func(n NetnsCounters) bool { return !slices.Contains(spaces, n.Netns) })
	a.Others = nil
	if len(all) < len(spaces) {
		return false
	}
	a.Netns, a.Impossible, a.Moved, a.Edges = all[0].Netns, all[0].Impossible, all[0].Moved, all[0].Edges
	a.Others = all[1:]
	return true
}

// comparison is the audit of one network namespace, or the sum of several.
type comparison struct {
	moved, edges Counters
	isNew        bool
	explained
}

func (a *Audit) compare(n NetnsCounters) comparison {
	c := comparison{moved: n.Moved, edges: n.Edges, isNew: n.New}
	if x := a.spaces[n.Netns]; x != nil {
		c.explained = *x
	}
	return c
}

// lines returns the outcome of the audit. s has what was lost.
func (a *Audit) lines(s *Summary) []string {
	if a.Impossible == FiltersUncounted && !s.Verbose {
		return nil
	}
	if a.Impossible != "" && len(a.Others) == 0 {
		return []string{"audit skipped: " + a.Impossible}
	}
	own := NetnsCounters{Netns: a.Netns, Impossible: a.Impossible, Moved: a.Moved, Edges: a.Edges}
	var lines []string
	if own.Impossible != "" {
		lines = append(lines, "audit skipped: "+own.Impossible)
	} else {
		line := "audit: " + a.line(a.compare(own), s)
		if n := a.notCompared(); n > 0 {
			line += "; " + events.Quantity(n, "ending", "endings") + " of other network namespaces not compared"
		}
		lines = append(lines, line)
	}
	lines = append(lines, a.otherLines(s)...)
	return append(lines, a.dropLines(own, s)...)
}

// notCompared returns the number of endings of namespaces about which nothing is known.
func (a *Audit) notCompared() uint64 {
	n := a.beyond
	for netns, x := range a.spaces {
		known := func(o NetnsCounters) bool { return o.Netns == netns }
		if netns != a.Netns && !slices.ContainsFunc(a.Others, known) {
			n += x.endings
		}
	}
	return n
}

// otherLines returns the audit of other namespaces: the sum of those without a difference in one line, a line for each
// with one, and a line for each reason why some are skipped.
func (a *Audit) otherLines(s *Summary) (lines []string) {
	sum, equal := comparison{moved: Counters{}}, uint64(0)
	skipped := map[string][]NetnsCounters{}
	for _, o := range a.Others {
		c := a.compare(o)
		switch {
		case o.Impossible != "":
			skipped[o.Impossible] = append(skipped[o.Impossible], o)
		case c.gap() == (gap{}):
			sum.add(&c)
			equal++
		default:
			lines = append(lines, fmt.Sprintf("audit of network namespace %d: %s", o.Netns, a.line(c, s)))
		}
	}
	if equal > 0 {
		which := events.Quantity(equal, "other network namespace", "other network namespaces")
		lines = append([]string{"audit of " + which + ": " + a.line(sum, s)}, lines...)
	}
	for _, reason := range slices.Sorted(maps.Keys(skipped)) {
		lines = append(lines, a.skippedLine(reason, skipped[reason]))
	}
	return lines
}

// skippedLine names the namespaces that are not compared for one reason.
func (a *Audit) skippedLine(reason string, skipped []NetnsCounters) string {
	const most = 8 // names in a line
	var names []string
	var endings uint64
	for i, o := range skipped {
		if i < most {
			names = append(names, strconv.FormatUint(uint64(o.Netns), 10))
		}
		if x := a.spaces[o.Netns]; x != nil {
			endings += x.endings
		}
	}
	if more := len(skipped) - most; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return fmt.Sprintf("audit skipped for %s of network namespace %s: %s", events.Quantity(endings, "ending", "endings"),
		strings.Join(names, ", "), reason)
}

func (c *comparison) add(d *comparison) {
	for name, n := range d.moved {
		c.moved[name] += n
	}
	for i, n := range d.explained.moved {
		c.explained.moved[i] += n
	}
}

// label names a counter in the line.
func label(c events.Counter) string {
	switch c {
	case events.OutRsts:
		return "RSTs sent"
	case events.EstabResets:
		return "resets of connections (EstabResets)"
	}
	return c.String()
}

// line returns the comparison of counters. s has what was lost.
func (a *Audit) line(c comparison, s *Summary) string {
	var parts []string
	for i, explained := range c.explained.moved {
		counter := events.Counter(i)
		moved := c.moved[counter.String()]
		if counter > events.EstabResets && moved == 0 && explained == 0 {
			continue
		}
		parts = append(parts,
			fmt.Sprintf("%s %s, explained %s", label(counter), events.Grouped(moved), events.Grouped(explained)))
	}
	if n := c.moved[events.AbortFailed]; n > 0 {
		parts = append(parts, events.Grouped(n)+" of the RSTs could not be sent ("+events.AbortFailed+")")
	}
	if why := a.difference(c, s); why != "" {
		parts = append(parts, why)
	}
	return strings.Join(parts, "; ")
}

// gap is how counters differ from what is explained.
type gap struct {
	edges, short, surplus bool
	rsts                  uint64 // RSTs that were counted and not explained
	others                bool   // another counter is short
}

func (c *comparison) gap() (g gap) {
	for i, explained := range c.explained.moved {
		name := events.Counter(i).String()
		moved := c.moved[name]
		switch {
		case moved > explained+c.edges[name]:
			g.short = true
		case moved > explained:
			g.edges = true
		case moved < explained:
			g.surplus = true
		}
		if moved > explained {
			if events.Counter(i) == events.OutRsts {
				g.rsts = moved - explained
			} else {
				g.others = true
			}
		}
	}
	return g
}

// difference returns the cause of a difference, or "".
func (a *Audit) difference(c comparison, s *Summary) string {
	g := c.gap()
	if g.rsts > 0 && !g.others && !g.surplus && a.unexplainedRSTs() == s.Suppressed {
		return "the difference: " + events.Quantity(g.rsts, "RST reply", "RST replies") + " over the rate limit"
	}
	causes := a.unseen(&c, s)
	switch {
	case g.short && len(causes) > 0:
		return "possible cause: " + strings.Join(causes, ", ")
	case g.short, g.surplus:
		return "the cause of the difference is unknown"
	case g.edges:
		return "the difference arose while attaching and detaching"
	}
	return ""
}

// unexplainedRSTs returns the number of RSTs that no ending explains, in all namespaces.
func (a *Audit) unexplainedRSTs() uint64 {
	own := a.compare(NetnsCounters{Netns: a.Netns, Moved: a.Moved})
	n := own.gap().rsts
	for _, o := range a.Others {
		c := a.compare(o)
		n += c.gap().rsts
	}
	return n
}

// unseen returns why endings may not have been reported.
func (a *Audit) unseen(c *comparison, s *Summary) []string {
	var causes []string
	add := func(n uint64, one, many string) {
		if n > 0 {
			causes = append(causes, events.Quantity(n, one, many))
		}
	}
	add(s.LostRecords, "lost record", "lost records")
	add(s.MissedProbes, "missed probe", "missed probes")
	add(s.Suppressed, "RST reply over the rate limit", "RST replies over the rate limit")
	add(s.Undecodable, "undecodable record", "undecodable records")
	add(s.Unexplained, "unexplained event", "unexplained events")
	if missing := events.CountedHooks(a.Missing); len(missing) > 0 {
		causes = append(causes, "missing hooks ("+strings.Join(missing, ", ")+")")
	}
	if a.ByTracepoint && !c.hasReply {
		causes = append(causes, "RST replies without a socket, which this kernel may not report")
	}
	if c.isNew {
		causes = append(causes, "RSTs of a namespace that existed before and could not be found")
	}
	return causes
}

// dropLines returns what listeners dropped without an answer, one line per namespace, the most drops first.
func (a *Audit) dropLines(own NetnsCounters, s *Summary) (lines []string) {
	all := append([]NetnsCounters{own}, a.Others...)
	slices.SortStableFunc(all, func(x, y NetnsCounters) int {
		return cmp.Compare(y.Moved[listenDrops], x.Moved[listenDrops])
	})
	const most = 8
	for _, n := range all {
		c := a.compare(n)
		text := c.drops(s)
		if text == "" || n.Impossible != "" {
			continue
		}
		where := ""
		if n.Netns != a.Netns {
			where = fmt.Sprintf(" in network namespace %d", n.Netns)
		}
		if lines = append(lines, "dropped without an answer"+where+": "+text); len(lines) == most {
			break
		}
	}
	return lines
}

// drops returns the segments of handshakes that listeners dropped without an answer, by reason. ListenDrops counts
// those of the other two counters as well. With tcp_abort_on_overflow an overflow is answered.
func (c *comparison) drops(s *Summary) string {
	var parts []string
	atMost := ""
	if c.overflows > 0 && s.Suppressed > 0 {
		atMost = "at most "
	}
	overflows, full := c.moved[listenOverflows], c.moved[requestsDropped]
	if n := overflows - min(overflows, c.overflows); n > 0 {
		parts = append(parts, atMost+events.Quantity(n, "SYN or ACK of a handshake", "SYNs or ACKs of handshakes")+
			", accept queue full ("+listenOverflows+")")
	}
	if full > 0 {
		parts = append(parts,
			events.Quantity(full, "SYN", "SYNs")+", too many handshakes in progress ("+requestsDropped+")")
	}
	if all := c.moved[listenDrops]; all > overflows+full {
		parts = append(parts, events.Quantity(all-overflows-full, "SYN or ACK", "SYNs or ACKs")+
			" for another reason ("+listenDrops+")")
	}
	return strings.Join(parts, "; ")
}
