package sink

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

const (
	// maxLines is how many lines the rows of a second may have on a terminal before equal endings share a row.
	maxLines = 50
	// maxAll is how many lines they may have in a second in which the first endings had a row each.
	maxAll = 57 // a row has up to three lines
	// maxSingle is how many endings of a second are kept for a row each, should no more come.
	maxSingle = 50
	// maxBurstGroups bounds the groups of a second.
	maxBurstGroups = 1024
)

// Collapsed is a table that a person can read while endings come faster than that. Once a second has had 50 lines,
// endings of the same path, process, service port and peer host, and with the same cause but for its numbers, share a
// row, which has their number and the ranges. Seconds are those of the endings' own times.
type Collapsed struct {
	table  *Table
	stderr io.Writer        // where it is said once that rows are shared
	now    func() time.Time // for a second that ends without another ending

	services events.Services
	causes   *memo[string, *numbers]
	noticed  bool

	begin     uint64          // of the second, by the event clock
	began     time.Time       // the same by now
	endings   uint64          // of the second
	lines     uint64          // of the table, when the second began
	isBurst   bool            // the second before had too many
	single    []events.Ending // of a second after such a one
	groups    []*group
	byKey     map[groupKey]*group
	ungrouped uint64 // endings beyond maxBurstGroups
}

// groupKey is what endings that share a row have in common.
type groupKey struct {
	path          events.Path
	host          *events.Host // one of several
	pid           uint32
	comm          string
	local, remote netip.Addr
	port          uint16 // of the service
	isLocal       bool   // port is the local one
	shape         string // of the cause
}

// group is endings that share a row.
type group struct {
	first    events.Ending
	endings  uint64
	severity events.Severity
	isLocal  bool
	cause    numbers
}

// rowsAreShared is what is said before the first row for several endings.
const rowsAreShared = "closetrace: more than 50 lines a second: from here on equal endings share a row, as ×N; " +
	"--all prints each"

// NewCollapsed returns a sink that writes to t. Before the first row for several endings it says so on stderr.
func NewCollapsed(t *Table, stderr io.Writer) *Collapsed {
	return &Collapsed{
		table: t, stderr: stderr, now: time.Now, causes: newMemo(numbersOf), byKey: map[groupKey]*group{},
	}
}

// Hosts adds a column for the hosts of the endings.
func (c *Collapsed) Hosts(hosts []*events.Host) { c.table.Hosts(hosts) }

// Write writes the row of e, or keeps e for the end of its second.
func (c *Collapsed) Write(e *events.Ending) error {
	if since := e.MonoNS - min(c.begin, e.MonoNS); c.endings == 0 || since >= uint64(time.Second) {
		if err := c.endSecond(); err != nil {
			return err
		}
		c.isBurst = c.isBurst && since < 2*uint64(time.Second)
		c.begin, c.began, c.lines = e.MonoNS, c.now(), c.table.lines
	}
	c.endings++
	if !c.isBurst && len(c.groups) == 0 && c.table.lines < c.lines+maxLines {
		c.services.Port(e)
		return c.table.Write(e)
	}
	if c.isBurst && c.endings <= maxSingle {
		c.single = append(c.single, *e)
	}
	c.add(e)
	return nil
}

// add adds e to its group.
func (c *Collapsed) add(e *events.Ending) {
	cause := c.causes.get(e.Cause)
	key := groupKey{path: e.Path, host: e.Host, local: e.Local.Addr(), remote: e.Remote.Addr(), shape: cause.shape}
	key.port, key.isLocal = c.services.Port(e)
	if task := who(e); task != nil {
		key.pid, key.comm = task.PID, task.Name()
	}
	g := c.byKey[key]
	if g == nil {
		if len(c.groups) == maxBurstGroups {
			c.ungrouped++
			return
		}
		g = &group{first: *e, isLocal: key.isLocal, cause: cause.copied()}
		c.byKey[key], c.groups = g, append(c.groups, g)
	} else {
		g.cause.widen(cause)
	}
	g.endings++
	g.severity = max(g.severity, e.Severity())
}

// endSecond writes what was kept of the second, if it has not ended before.
func (c *Collapsed) endSecond() (err error) {
	if c.endings == 0 {
		return nil
	}
	isFew := c.isBurst && c.endings <= maxSingle && c.endings*c.table.lines <= maxLines*c.table.rows
	switch {
	case isFew:
		for i := range c.single {
			err = cmp.Or(err, c.table.Write(&c.single[i]))
		}
	case c.isBurst:
		err = c.writeGroups(maxLines)
	case len(c.groups) > 0:
		err = c.writeGroups(maxAll)
	}
	c.isBurst, c.endings = len(c.groups) > 0 && !isFew, 0
	clear(c.byKey)
	clear(c.groups)
	clear(c.single)
	c.groups, c.single, c.ungrouped = c.groups[:0], c.single[:0], 0
	return err
}

// writeGroups writes the rows of groups until the second has had most lines, and a line about the others. The most
// important are written, in the order of their first endings.
func (c *Collapsed) writeGroups(most uint64) error {
	if !c.noticed && c.sharesRows() {
		c.noticed = true
		fmt.Fprintln(c.stderr, c.table.texts.own.compute(c.table.texts.say(rowsAreShared)).shown)
	}
	room := int((most - min(most, c.table.lines-c.lines)) * c.table.rows / c.table.lines)
	shown := c.groups
	if len(shown) > room {
		shown = slices.SortedFunc(slices.Values(shown), compareGroups)[:room]
		slices.SortFunc(shown, func(a, b *group) int { return cmp.Compare(a.first.MonoNS, b.first.MonoNS) })
	}
	left := c.ungrouped
	for _, g := range c.groups {
		left += g.endings
	}
	for _, g := range shown {
		left -= g.endings
		if err := c.table.Write(g.ending()); err != nil {
			return err
		}
	}
	if left == 0 {
		return nil
	}
	return c.table.note(fmt.Sprintf("and %s of %s in this second", events.Quantity(left, "more ending", "more endings"),
		c.groupsLeft(len(c.groups)-len(shown))))
}

// sharesRows reports whether several endings of the second share a row.
func (c *Collapsed) sharesRows() bool {
	return slices.ContainsFunc(c.groups, func(g *group) bool { return g.endings > 1 })
}

// groupsLeft returns how many groups are not shown.
func (c *Collapsed) groupsLeft(n int) string {
	if c.ungrouped > 0 {
		return "more than " + events.Quantity(uint64(n), "kind", "kinds")
	}
	return events.Quantity(uint64(n), "kind", "kinds")
}

// ending returns an ending that stands for all of the group.
func (g *group) ending() *events.Ending {
	if g.endings == 1 {
		return &g.first
	}
	e := g.first
	e.Cause, e.Stack = g.cause.String(), nil
	e.Title = titleOf(&e) + " ×" + events.Grouped(g.endings)
	if g.isLocal {
		e.Remote = withoutPort(e.Remote)
	} else {
		e.Local = withoutPort(e.Local)
	}
	return &e
}

// withoutPort returns an address that is shown with any port.
func withoutPort(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), 0) }

// Flush writes what the caller wrote, but for endings that share rows: those are written when their second is over.
func (c *Collapsed) Flush() error {
	if len(c.groups) > 0 && c.now().Sub(c.began) >= time.Second {
		if err := c.endSecond(); err != nil {
			return err
		}
	}
	return c.table.Flush()
}

// Close writes all that is left.
func (c *Collapsed) Close() error {
	if err := c.endSecond(); err != nil {
		return err
	}
	return c.table.Close()
}
