package classify

import "hash/maphash"

// recent is a map that is bounded: it remembers the keys that were put last. A
// key that is put again is remembered anew. It is a ring with chains by hash: with a
// Go map instead of the chains, classifying takes an eighth longer.
type recent[K comparable, V any] struct {
	limit  int
	seed   maphash.Seed
	chains []int32 // by the hash of the key: the newest entry of the chain, as its place + 1; 0: none
	ring   []entry[K, V]
	next   int // the place to be written: the oldest, once all are
	known  int // entries in chains
}

// entry is a key with its value. It is in its chain unless the key was forgotten
// or put again.
type entry[K comparable, V any] struct {
	key     K
	value   V
	chain   uint32
	chained bool
	older   int32 // in the chain, as place + 1
}

func newRecent[K comparable, V any](limit int) recent[K, V] {
	return recent[K, V]{limit: limit, seed: maphash.MakeSeed(), chains: make([]int32, limit)}
}

// put remembers a key and returns its value for the caller to set.
func (r *recent[K, V]) put(k K) *V {
	value, _ := r.renew(k)
	return value
}

// renew is put. It also returns the value that the key had, or nil; valid until the next put.
func (r *recent[K, V]) renew(k K) (value, old *V) {
	if r.ring == nil {
		r.ring = make([]entry[K, V], r.limit) // whole: growing would leave copies behind
	}
	e := &r.ring[r.next]
	if e.chained {
		r.unlink(r.linkTo(e.chain, int32(r.next+1)))
	}
	chain := r.chain(k)
	link := r.find(chain, k)
	if *link != 0 {
		old = &r.ring[*link-1].value
		r.unlink(link)
	}
	e.key, e.chain, e.chained, e.older = k, chain, true, r.chains[chain]
	r.known++
	r.next++
	r.chains[chain] = int32(r.next)
	r.next %= r.limit
	return &e.value, old
}

// get returns the value of a key, or nil. It is valid until the next put.
func (r *recent[K, V]) get(k K) *V {
	if r.known == 0 {
		return nil
	}
	if link := r.find(r.chain(k), k); *link != 0 {
		return &r.ring[*link-1].value
	}
	return nil
}

func (r *recent[K, V]) forget(k K) {
	if r.known > 0 {
		r.unlink(r.find(r.chain(k), k))
	}
}

func (r *recent[K, V]) chain(k K) uint32 {
	return uint32(maphash.Comparable(r.seed, k) % uint64(len(r.chains)))
}

// find returns the link to the entry of a key, or that at the end of its chain.
func (r *recent[K, V]) find(chain uint32, k K) *int32 {
	link := &r.chains[chain]
	for *link != 0 && r.ring[*link-1].key != k {
		link = &r.ring[*link-1].older
	}
	return link
}

// linkTo returns the link to a place of the ring in its chain.
func (r *recent[K, V]) linkTo(chain uint32, place int32) *int32 {
	link := &r.chains[chain]
	for *link != place {
		link = &r.ring[*link-1].older
	}
	return link
}

// unlink takes the entry that a link leads to, if any, out of its chain.
func (r *recent[K, V]) unlink(link *int32) {
	if *link != 0 {
		e := &r.ring[*link-1]
		e.chained, *link = false, e.older
		r.known--
	}
}
