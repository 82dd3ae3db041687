// Package top counts endings for closetrace top: by path, process, remote host, port and so on, in total and per
// second, with the last endings of each group.
//
// The caller passes the current time, in nanoseconds of CLOCK_MONOTONIC. Memory is bounded: once there are [MaxGroups]
// groups, one more group counts all others, so the count of each group is exact and the counts add up to the total.
package top

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"github.com/closetrace/closetrace/internal/events"
)

const (
	// MaxGroups is the number of groups in a grouping, without the group of all others.
	MaxGroups = 512
	// MaxLast is the number of endings that a group keeps.
	MaxLast = 16
)

// Grouping is a property of endings by which they are counted.
type Grouping string

// The groupings.
const (
	ByPath      Grouping = "path"
	ByProcess   Grouping = "process"   // that made the call, or else that holds the socket
	ByRemote    Grouping = "remote"    // host
	ByPort      Grouping = "port"      // of the service
	ByService   Grouping = "service"   // its port, here or at the remote host
	ByContainer Grouping = "container" // of the socket
	ByCgroup    Grouping = "cgroup"    // of the socket
	ByPair      Grouping = "pair"      // of hosts
)

// Groupings returns all groupings, as the screen switches between them.
func Groupings() []Grouping {
	return []Grouping{ByPath, ByProcess, ByRemote, ByPort, ByService, ByContainer, ByCgroup, ByPair}
}

// Key identifies a group. The zero key is that of endings without the property.
type Key struct {
	Others bool // the group of all that have no group of their own
	Path   events.Path
	PID    uint32
	// Name is a comm, a container or a cgroup. It may have any bytes. "kernel" if no process is known.
	Name   string
	Local  netip.Addr
	Remote netip.Addr
	Here   bool // the port is a local one
	Port   uint16
}

// String returns the name of the group. It may contain a comm, which has to be escaped for a terminal.
func (k Key) String() string {
	switch {
	case k.Others:
		return "(others)"
	case k.Path != "":
		return string(k.Path)
	case k.PID != 0:
		return k.Name + "[" + strconv.FormatUint(uint64(k.PID), 10) + "]"
	case k.Name != "":
		return k.Name
	case k.Local.IsValid():
		return k.Local.String() + " " + k.Remote.String()
	case k.Port != 0 && k.Here:
		return "here:" + strconv.Itoa(int(k.Port))
	case k.Port != 0 && k.Remote.IsValid():
		return netip.AddrPortFrom(k.Remote, k.Port).String()
	case k.Port != 0:
		return strconv.Itoa(int(k.Port))
	case k.Remote.IsValid():
		return k.Remote.String()
	}
	return "-"
}

// keyOf returns the key of an ending whose service has this port.
func keyOf(by Grouping, e *events.Ending, port uint16, isLocal bool) Key {
	switch by {
	case ByPath:
		return Key{Path: e.Path}
	case ByProcess:
		if t := cmp.Or(e.Actor, e.Owner); t != nil {
			return Key{PID: t.PID, Name: t.Name()}
		}
		return Key{Name: "kernel"}
	case ByRemote:
		return Key{Remote: host(e.Remote)}
	case ByPort:
		return Key{Port: port}
	case ByService:
		if isLocal || port == 0 {
			return Key{Port: port, Here: isLocal && port != 0}
		}
		return Key{Port: port, Remote: host(e.Remote)}
	case ByContainer:
		return Key{Name: e.Container()}
	case ByCgroup:
		return Key{Name: e.Cgroup}
	case ByPair:
		if local, remote := host(e.Local), host(e.Remote); local.IsValid() && remote.IsValid() {
			return Key{Local: local, Remote: remote}
		}
	}
	return Key{}
}

// host returns the address of an endpoint, the zero address if it has none.
func host(a netip.AddrPort) netip.Addr {
	if ip := a.Addr().Unmap(); ip.IsValid() && !ip.IsUnspecified() {
		return ip
	}
	return netip.Addr{}
}

// Count is the number of endings.
type Count struct {
	Endings, Errors uint64 // Errors: abnormal endings
	RSTSent         uint64
	RSTReceived     uint64
	// PerSecond is the mean of the last complete seconds, at most ten.
	PerSecond float64
}

// Group is a group at one moment.
type Group struct {
	Key
	Count
	Title string // of a path, in a few words
	// Worst is the highest severity of its endings.
	Worst events.Severity
}

// group is a group that counts.
type group struct {
	Group
	rate     rate
	last     ring
	abnormal ring // the last abnormal ones, which the others must not push out
}

// ring has the last endings, which do not change.
type ring struct {
	endings []*events.Ending
	next    int // where the oldest one is, if it is full
}

func (r *ring) add(e *events.Ending) {
	if len(r.endings) < MaxLast {
		r.endings = append(r.endings, e)
		return
	}
	r.endings[r.next] = e
	r.next = (r.next + 1) % MaxLast
}

// newest returns the endings, newest first.
func (r *ring) newest() []*events.Ending {
	var all []*events.Ending
	for i := range r.endings {
		all = append(all, r.endings[(r.next+len(r.endings)-1-i)%len(r.endings)])
	}
	return all
}

func (r *ring) clone() ring { return ring{endings: slices.Clone(r.endings), next: r.next} }

func (g *group) add(e *events.Ending, second uint64) {
	g.Endings++
	if e.IsAbnormal() {
		g.Errors++
		g.abnormal.add(e)
	}
	if e.RST {
		g.RSTSent++
	}
	if e.ReceivedRST() {
		g.RSTReceived++
	}
	g.Worst = max(g.Worst, e.Severity())
	g.rate.add(second)
	g.last.add(e)
}

// Board holds the counts. It is not safe for concurrent use.
type Board struct {
	began    uint64 // nanoseconds
	services *events.Services
	total    group
	groups   map[Grouping]map[Key]*group
}

// New returns a board that counts from now on.
func New(now uint64) *Board {
	b := &Board{began: now, services: &events.Services{}, groups: map[Grouping]map[Key]*group{}}
	for _, by := range Groupings() {
		b.groups[by] = map[Key]*group{}
	}
	return b
}

// Add counts a copy of e.
func (b *Board) Add(e *events.Ending, now uint64) {
	kept := *e
	b.total.add(&kept, second(now))
	port, isLocal := b.services.Port(e)
	for _, by := range Groupings() {
		b.group(by, keyOf(by, e, port, isLocal), e).add(&kept, second(now))
	}
}

// group returns the group with a key, or the group of all others.
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

// Began returns the time since which it counts.
func (b *Board) Began() uint64 { return b.began }

// Total returns the count of all endings.
func (b *Board) Total(now uint64) Count { return b.counted(&b.total, now).Count }

// Groups returns the groups of a grouping, sorted.
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

// Last returns the last endings of a group, newest first: all, or the last abnormal ones.
func (b *Board) Last(by Grouping, k Key, onlyAbnormal bool) []*events.Ending {
	g := b.groups[by][k]
	switch {
	case g == nil:
		return nil
	case onlyAbnormal:
		return g.abnormal.newest()
	}
	return g.last.newest()
}

// Clone returns a copy of the counts, to which nothing can be added.
func (b *Board) Clone() *Board {
	c := &Board{began: b.began, total: b.total.clone(), groups: map[Grouping]map[Key]*group{}}
	for by, all := range b.groups {
		c.groups[by] = make(map[Key]*group, len(all))
		for k, g := range all {
			copied := g.clone()
			c.groups[by][k] = &copied
		}
	}
	return c
}

func (g *group) clone() group {
	c := *g
	c.last, c.abnormal = g.last.clone(), g.abnormal.clone()
	return c
}
