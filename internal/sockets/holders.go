package sockets

import (
	"cmp"
	"slices"
)

// Inodes is a set of inodes of sockets.
type Inodes struct {
	sorted []uint64
}

// NewInodes returns a set of inodes. It keeps the slice.
func NewInodes(inodes []uint64) Inodes {
	slices.Sort(inodes)
	return Inodes{slices.Compact(inodes)}
}

// Has reports whether an inode is in the set.
func (s Inodes) Has(inode uint64) bool {
	_, found := slices.BinarySearch(s.sorted, inode)
	return found
}

// Len returns the number of inodes.
func (s Inodes) Len() int { return len(s.sorted) }

// Holders are processes and the sockets that they have open. It takes 16 bytes of each descriptor.
type Holders struct {
	all    []Holder // without descriptors
	held   []held
	sorted bool
}

type held struct {
	inode  uint64
	holder uint32 // position in all
	fd     int32
}

// Add adds a process, or a thread with a descriptor table of its own, and returns its number for Hold.
func (h *Holders) Add(holder Holder) int {
	holder.FDs = nil
	h.all = append(h.all, holder)
	return len(h.all) - 1
}

// Hold adds a descriptor of a socket.
func (h *Holders) Hold(number int, inode uint64, fd int) {
	h.held = append(h.held, held{inode, uint32(number), int32(fd)})
	h.sorted = false
}

// Of returns the processes that hold a socket, the one with the lowest id first. h may be nil.
func (h *Holders) Of(inode uint64) (found []Holder) {
	if h == nil || inode == 0 {
		return nil
	}
	if !h.sorted {
		h.sort()
	}
	i, _ := slices.BinarySearchFunc(h.held, inode, func(d held, inode uint64) int { return cmp.Compare(d.inode, inode) })
	for last := -1; i < len(h.held) && h.held[i].inode == inode; i++ {
		d := h.held[i]
		if int(d.holder) != last {
			last = int(d.holder)
			found = append(found, h.all[last])
		}
		if f := &found[len(found)-1]; d.fd != noDescriptor {
			f.FDs = append(f.FDs, int(d.fd))
		}
	}
	return found
}

// sort sorts descriptors by inode, process and number. A descriptor that was added twice is kept once.
func (h *Holders) sort() {
	slices.SortFunc(h.held, func(a, b held) int {
		if order := cmp.Compare(a.inode, b.inode); order != 0 {
			return order
		}
		p, q := &h.all[a.holder], &h.all[b.holder]
		return cmp.Or(cmp.Compare(p.PID, q.PID), cmp.Compare(p.TID, q.TID), cmp.Compare(a.holder, b.holder),
			cmp.Compare(a.fd, b.fd))
	})
	h.held = slices.Compact(h.held)
	h.sorted = true
}

// noDescriptor stands for a descriptor whose number is not known.
const noDescriptor = -1

// HoldersOf returns Holders of the sockets with these inodes.
func HoldersOf(all map[uint64][]Holder) *Holders {
	h := &Holders{}
	for inode, holders := range all {
		for _, holder := range holders {
			n := h.Add(holder)
			for _, fd := range holder.FDs {
				h.Hold(n, inode, fd)
			}
			if len(holder.FDs) == 0 {
				h.Hold(n, inode, noDescriptor)
			}
		}
	}
	return h
}
