package classify

import (
	"math/bits"
	"math/rand/v2"
)

// memory forgets the oldest of what it holds. It is on the way of every event, so that it grows without copying what
// it has, and leaves nothing to be collected.
type memory[K comparable] struct {
	hash   func(K, seed) uint64
	seed   seed
	chains []int32 // by hash: the place of the newest, from 1; 0: none
	ring   [][]memorized[K]
	next   int // place in the ring to be written, the oldest once all are
	most   int
	known  int
}

// memorized is in its chain, unless it has been renewed since at another place, or forgotten.
type memorized[K comparable] struct {
	key     K
	past    past
	chain   uint32
	chained bool
	older   int32 // in the chain, as in chains
}

// piece is how many places a memory takes at once.
const piece = 256

func newMemory[K comparable](most int, hash func(K, seed) uint64) memory[K] {
	return memory[K]{hash: hash, seed: newSeed(), chains: make([]int32, most), most: most}
}

// put renews a key. What is known by it is for the caller to set.
func (m *memory[K]) put(k K) *past {
	if m.next/piece == len(m.ring) {
		m.ring = append(m.ring, make([]memorized[K], min(piece, m.most-m.next)))
	}
	place := int32(m.next + 1)
	written := m.at(place)
	if written.chained {
		m.unlink(m.link(&m.chains[written.chain], place))
	}
	chain := m.chain(k)
	head := &m.chains[chain]
	m.unlink(m.find(head, k))
	written.key, written.chain, written.chained, written.older = k, chain, true, *head
	*head = place
	m.known++
	if m.next++; m.next == m.most {
		m.next = 0
	}
	return &written.past
}

// get returns nil for what is not, or no longer, known. What it returns is valid
// until the next put.
func (m *memory[K]) get(k K) *past {
	if m.known == 0 {
		return nil
	}
	if place := *m.find(&m.chains[m.chain(k)], k); place != 0 {
		return &m.at(place).past
	}
	return nil
}

func (m *memory[K]) forget(k K) {
	if m.known > 0 {
		m.unlink(m.find(&m.chains[m.chain(k)], k))
	}
}

// unlink takes what a link leads to out of its chain, if there is anything.
func (m *memory[K]) unlink(link *int32) {
	if *link == 0 {
		return
	}
	old := m.at(*link)
	old.chained, *link = false, old.older
	m.known--
}

// find is the link to what is known by a key, or the one that ends the chain.
func (m *memory[K]) find(link *int32, k K) *int32 {
	for *link != 0 {
		at := m.at(*link)
		if at.key == k {
			break
		}
		link = &at.older
	}
	return link
}

// link is that to a place in the chain.
func (m *memory[K]) link(link *int32, place int32) *int32 {
	for *link != place {
		link = &m.at(*link).older
	}
	return link
}

func (m *memory[K]) chain(k K) uint32 { return uint32(m.hash(k, m.seed) % uint64(len(m.chains))) }

func (m *memory[K]) at(place int32) *memorized[K] {
	i := uint(place - 1)
	return &m.ring[i/piece][i%piece]
}

// seed keeps those who choose ports and addresses from choosing keys of one chain.
type seed [2]uint64

func newSeed() seed { return seed{rand.Uint64(), rand.Uint64()} }

// mix makes one number of two, each bit of which depends on all of theirs, as wyhash does.
func (s seed) mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a^s[0], b^s[1])
	return high ^ low
}
