package stuck

import (
	"cmp"
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// Key is what the sockets of a group have in common.
type Key struct {
	PID       uint32 // of who holds them, or the listener; the lowest if several do; 0: not known
	Comm      string
	Netns     uint32
	Service   string
	State     events.State
	Diagnosis Diagnosis
}

// Group is sockets with the same story.
type Group struct {
	Key
	Count                   int
	Oldest                  *Milliseconds // at least; nil: of none it is known
	Exact                   bool          // Oldest is its age
	Unread, Unsent, Unacked uint64
	Why                     string // of the oldest
}

func (f *Finding) key() Key {
	k := Key{Netns: f.Netns, Service: f.Service, State: f.State, Diagnosis: f.Diagnosis}
	holders := f.Holders
	if f.Listener != nil {
		holders = f.Listener.Holders
	}
	if len(holders) > 0 {
		k.PID, k.Comm = holders[0].PID, holders[0].Comm
	}
	return k
}

// Groups puts together what belongs together, the most first.
func Groups(found []Finding) []Group {
	index := map[Key]int{}
	var groups []Group
	for i := range found {
		key := found[i].key()
		at, known := index[key]
		if !known {
			at = len(groups)
			index[key] = at
			groups = append(groups, Group{Key: key})
		}
		groups[at].add(&found[i])
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(b.Count-a.Count, older(a.Oldest, b.Oldest), cmp.Compare(a.PID, b.PID),
			cmp.Compare(a.Service, b.Service), cmp.Compare(a.State, b.State), cmp.Compare(a.Diagnosis, b.Diagnosis),
			cmp.Compare(a.Netns, b.Netns))
	})
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

// older sorts by age, the oldest first and the unknown last.
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

// Sort puts the oldest first.
func Sort(found []Finding) {
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(older(a.Age, b.Age), a.Local.Compare(b.Local), a.Remote.Compare(b.Remote), cmp.Compare(a.Netns, b.Netns))
	})
}

// AtLeast leaves out what is not known to be that old, and says how many those are.
func AtLeast(found []Finding, age Milliseconds) (old []Finding, left int) {
	for _, f := range found {
		if age > 0 && (f.Age == nil || *f.Age < age) {
			left++
			continue
		}
		old = append(old, f)
	}
	return old, left
}

// Growth is by how much groups have grown since before. Groups that are gone follow
// those that are there, with a count of 0.
func Growth(before, now []Group) (all []Group, by []int) {
	was := map[Key]int{}
	for _, g := range before {
		was[g.Key] = g.Count
	}
	for _, g := range now {
		all, by = append(all, g), append(by, g.Count-was[g.Key])
		delete(was, g.Key)
	}
	for _, g := range before {
		if n := was[g.Key]; n > 0 {
			all, by = append(all, Group{Key: g.Key, Why: "gone"}), append(by, -n)
		}
	}
	return all, by
}
