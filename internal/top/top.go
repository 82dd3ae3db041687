// Package top counts endings for closetrace top: by path, by process and by
// remote host, in total and per second, with the last endings of each group.
//
// It knows neither terminals nor clocks: what is now, its caller says, as
// nanoseconds of CLOCK_MONOTONIC. Its memory is bounded: what has no room in a
// group of its own is counted in one group for all others, so that the numbers
// of a group are exact, and their sum is the total.
package top

import (
	"net/netip"
	"strconv"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
)

const (
	// MaxGroups is how many groups a grouping has, one for all others not
	// counted.
	MaxGroups = 512
	// MaxLast is how many endings a group remembers.
	MaxLast = 16
)

// Grouping is what endings are counted by.
type Grouping string

// The groupings.
const (
	ByPath    Grouping = "path"
	ByProcess Grouping = "process" // whose call it was, or that holds the socket
	ByRemote  Grouping = "remote"  // host
)

// Groupings are all, in the order in which they are offered.
func Groupings() []Grouping { return []Grouping{ByPath, ByProcess, ByRemote} }

// Key names a group. The zero key is that of endings that have no remote host.
type Key struct {
	Others bool // the group of what has none of its own
	Path   events.Path
	PID    uint32
	Comm   string // any bytes; of PID 0 the kernel's, where no process is known
	Remote netip.Addr
}

// String is the name of the group. A comm in it has to be escaped.
func (k Key) String() string {
	switch {
	case k.Others:
		return "(others)"
	case k.Path != "":
		return string(k.Path)
	case k.PID != 0:
		return k.Comm + "[" + strconv.FormatUint(uint64(k.PID), 10) + "]"
	case k.Comm != "":
		return k.Comm
	case k.Remote.IsValid():
		return k.Remote.String()
	}
	return "-"
}

func keyOf(by Grouping, e *events.Ending) Key {
	switch by {
	case ByPath:
		return Key{Path: e.Path}
	case ByProcess:
		for _, t := range []*events.Task{e.Actor, e.Owner} {
			if t != nil {
				return Key{PID: t.PID, Comm: t.Comm}
			}
		}
		return Key{Comm: "kernel"}
	case ByRemote:
		if ip := e.Remote.Addr().Unmap(); ip.IsValid() && !ip.IsUnspecified() {
			return Key{Remote: ip}
		}
	}
	return Key{}
}

// Count is how many endings there were.
type Count struct {
	Endings, Errors uint64 // what an error is, [filter.IsError] says
	RSTs            uint64 // sent or received
	// PerSecond is the mean of the last complete seconds, at most [window].
	PerSecond float64
}

// Group is a group, at one moment.
type Group struct {
	Key
	Count
	Title string // of a path: what it is in a few words
	// Worst is the highest severity of its endings.
	Worst filter.Severity
}

// group is a group as it grows.
type group struct {
	Group
	rate rate
	last []*events.Ending // a ring; what it points to does not change
	next int
}

func (g *group) add(e *events.Ending, second uint64) {
	g.Endings++
	if filter.IsError(e) {
		g.Errors++
	}
	if filter.Pattern("rst").Names(e) {
		g.RSTs++
	}
	g.Worst = max(g.Worst, filter.SeverityOf(e))
	g.rate.add(second)
	if len(g.last) < MaxLast {
		g.last = append(g.last, e)
		return
	}
	g.last[g.next] = e
	g.next = (g.next + 1) % MaxLast
}

// Board is the counts. It is not safe for concurrent use.
type Board struct {
	began  uint64 // nanoseconds
	total  group
	groups map[Grouping]map[Key]*group
}

// New returns a board that counts from now on.
func New(now uint64) *Board {
	b := &Board{began: now, groups: map[Grouping]map[Key]*group{}}
	for _, by := range Groupings() {
		b.groups[by] = map[Key]*group{}
	}
	return b
}

// Add counts e, which may change afterwards.
func (b *Board) Add(e *events.Ending, now uint64) {
	kept := *e
	b.total.add(&kept, second(now))
	for _, by := range Groupings() {
		b.group(by, keyOf(by, e), e).add(&kept, second(now))
	}
}

// group is the one with a key, or the one of all others.
func (b *Board) group(by Grouping, k Key, e *events.Ending) *group {
	all := b.groups[by]
	if g := all[k]; g != nil {
		return g
	}
	if len(all) >= MaxGroups {
		k = Key{Others: true}
		if g := all[k]; g != nil {
			return g
		}
	}
	g := &group{Group: Group{Key: k}}
	if k.Path != "" {
		g.Title = e.Title
	}
	all[k] = g
	return g
}

// Began is since when it counts.
func (b *Board) Began() uint64 { return b.began }

// Total is the count of all endings.
func (b *Board) Total(now uint64) Count { return b.counted(&b.total, now).Count }

// Groups are those of a grouping, in an order.
func (b *Board) Groups(by Grouping, o Order, now uint64) []Group {
	all := make([]Group, 0, len(b.groups[by]))
	for _, g := range b.groups[by] {
		all = append(all, b.counted(g, now))
	}
	o.sort(all)
	return all
}

func (b *Board) counted(g *group, now uint64) Group {
	counted := g.Group
	counted.PerSecond = g.rate.mean(second(b.began), second(now))
	return counted
}

// Last are the last endings of a group, newest first.
func (b *Board) Last(by Grouping, k Key) []*events.Ending {
	g := b.groups[by][k]
	if g == nil {
		return nil
	}
	last := make([]*events.Ending, 0, len(g.last))
	for i := range g.last {
		last = append(last, g.last[(g.next+len(g.last)-1-i)%len(g.last)])
	}
	return last
}

// Clone returns a board that no longer changes with b.
func (b *Board) Clone() *Board {
	c := New(b.began)
	c.total = b.total.clone()
	for by, all := range b.groups {
		for k, g := range all {
			copied := g.clone()
			c.groups[by][k] = &copied
		}
	}
	return c
}

func (g *group) clone() group {
	c := *g
	c.last = append([]*events.Ending(nil), g.last...)
	return c
}
