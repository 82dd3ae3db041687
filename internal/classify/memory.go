package classify

import "hash/maphash"

// memory forgets the oldest of what it holds. It is on the way of every event, so that it grows without copying what
// it has, and leaves nothing to be collected.
type memory[K comparable] struct {
	seed   maphash.Seed
	chains []int32 // by hash: the place of the newest, from 1; 0: none
	ring   [][]memorized[K]
	next   int // place in the ring to be written, the oldest once all are
	most   int
	known  int
}

// memorized is in the chain of its key, unless it has been renewed since at another place, or forgotten.
type memorized[K comparable] struct {
	key     K
	past    past
	chained bool
	older   int32 // in the chain, as in chains
}

// piece is how many places a memory takes at once.
const piece = 256

func newMemory[K comparable](most int) memory[K] {
	return memory[K]{seed: maphash.MakeSeed(), chains: make([]int32, most), most: most}
}

// put remembers a copy.
func (m *memory[K]) put(k K, p *past) {
	if m.next/piece == len(m.ring) {
		m.ring = append(m.ring, make([]memorized[K], min(piece, m.most-m.next)))
	}
	written := m.at(int32(m.next + 1))
	if written.chained {
		m.forget(written.key)
	}
	m.forget(k)
	head := m.chain(k)
	*written = memorized[K]{key: k, past: *p, chained: true, older: *head}
	*head = int32(m.next + 1)
	m.known++
	m.next = (m.next + 1) % m.most
}

// get returns nil for what is not, or no longer, known. What it returns is valid
// until the next put.
func (m *memory[K]) get(k K) *past {
	if m.known == 0 {
		return nil
	}
	if place := *m.find(k); place != 0 {
		return &m.at(place).past
	}
	return nil
}

func (m *memory[K]) forget(k K) {
	if m.known == 0 {
		return
	}
	link := m.find(k)
	if *link == 0 {
		return
	}
	old := m.at(*link)
	old.chained, *link = false, old.older
	m.known--
}

// find is the link to what is known by a key, or the one that ends its chain.
func (m *memory[K]) find(k K) *int32 {
	link := m.chain(k)
	for *link != 0 {
		at := m.at(*link)
		if at.key == k {
			break
		}
		link = &at.older
	}
	return link
}

func (m *memory[K]) chain(k K) *int32 {
	return &m.chains[maphash.Comparable(m.seed, k)%uint64(len(m.chains))]
}

func (m *memory[K]) at(place int32) *memorized[K] {
	i := int(place - 1)
	return &m.ring[i/piece][i%piece]
}
