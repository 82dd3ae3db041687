package stuck

import (
	"cmp"
	"hash/maphash"
	"iter"
	"maps"
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// Key identifies a group: its sockets agree in all of this.
type Key struct {
	PID       uint32 // holder of the socket, or of its listener; the lowest of several; 0: unknown
	Comm      string
	Netns     uint32
	Service   string
	State     events.State
	Diagnosis Diagnosis
}

// Group is a number of sockets with the same holder, service, state and diagnosis.
type Group struct {
	Key
	Count                   int
	Oldest                  *Milliseconds // least age; nil: unknown for all of them
	Exact                   bool          // Oldest is its age
	Unread, Unsent, Unacked uint64
	Why                     string // of the oldest
}

func (f *Finding) key() Key {
	k := Key{Netns: f.Netns, Service: f.Service, State: f.State, Diagnosis: f.Diagnosis}
	if holders := f.Processes(); len(holders) > 0 {
		k.PID, k.Comm = holders[0].PID, holders[0].Comm
	}
	return k
}

// mostGroups is how many groups are kept. Without a listener each socket may be in a group of its own.
const mostGroups = 1000

// Grouping has the groups of a report.
type Grouping struct {
	Groups []Group // those that wait for a peer last, then the largest first, at most mostGroups
	// MoreGroups and MoreSockets are how many are left out.
	MoreGroups, MoreSockets int

	counts map[uint64]int // of all groups, by the hash of the key
}

var seed = maphash.MakeSeed()

// hash returns the hash of a key. Of a million groups, two have the same one in 37 million runs.
func (k *Key) hash() uint64 { return maphash.Comparable(seed, *k) }

// Groups returns the groups of the findings. It goes through them once more if there are too many groups to keep.
func Groups(findings iter.Seq[*Finding]) *Grouping {
	g := &Grouping{counts: map[uint64]int{}}
	groups := map[uint64]*Group{}
	for f := range findings {
		key := f.key()
		hash := key.hash()
		g.counts[hash]++
		if g.counts[hash] == 1 && len(groups) < mostGroups {
			groups[hash] = &Group{Key: key}
		}
		if group := groups[hash]; group != nil {
			group.add(f)
		}
	}
	if len(g.counts) > mostGroups {
		groups = g.largest()
		for f := range findings {
			key := f.key()
			if group := groups[key.hash()]; group != nil {
				group.Key = key
				group.add(f)
			}
		}
	}
	for _, group := range groups {
		g.Groups = append(g.Groups, *group)
		g.MoreSockets -= group.Count
	}
	for _, n := range g.counts {
		g.MoreSockets += n
	}
	g.MoreGroups = len(g.counts) - len(g.Groups)
	slices.SortFunc(g.Groups, func(a, b Group) int {
		return cmp.Or(falseFirst(a.Diagnosis.WaitsForPeer(), b.Diagnosis.WaitsForPeer()), b.Count-a.Count,
			older(a.Oldest, b.Oldest), cmp.Compare(a.PID, b.PID),
			cmp.Compare(a.Service, b.Service), cmp.Compare(a.State, b.State), cmp.Compare(a.Diagnosis, b.Diagnosis),
			cmp.Compare(a.Netns, b.Netns))
	})
	return g
}

// largest returns empty groups for the hashes that have the most sockets.
func (g *Grouping) largest() map[uint64]*Group {
	hashes := slices.Collect(maps.Keys(g.counts))
	slices.SortFunc(hashes, func(a, b uint64) int { return cmp.Or(g.counts[b]-g.counts[a], cmp.Compare(a, b)) })
	groups := map[uint64]*Group{}
	for _, hash := range hashes[:mostGroups] {
		groups[hash] = &Group{}
	}
	return groups
}

func (g *Group) add(f *Finding) {
	if g.Count == 0 || older(f.Age, g.Oldest) < 0 {
		g.Oldest, g.Exact, g.Why = f.Age, f.Exact != nil, f.Why
	}
	g.Count++
	g.Unread += uint64(f.Unread)
	g.Unsent += uint64(f.Unsent)
	g.Unacked += uint64(f.Unacked)
}

// older compares ages for sorting: the oldest first, the unknown last.
func older(a, b *Milliseconds) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return cmp.Compare(*b, *a)
}

// Growth returns the groups with how much each has grown since before, which may be nil. Groups of before that no
// longer exist are the last, with a count of 0.
func (g *Grouping) Growth(before *Grouping) (all []Group, growth []int) {
	if before == nil {
		before = &Grouping{}
	}
	for _, group := range g.Groups {
		all, growth = append(all, group), append(growth, group.Count-before.counts[group.hash()])
	}
	for _, group := range before.Groups {
		if g.counts[group.hash()] == 0 {
			all, growth = append(all, Group{Key: group.Key, Why: "none left"}), append(growth, -group.Count)
		}
	}
	return all, growth
}
