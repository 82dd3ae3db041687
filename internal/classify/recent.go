package classify

import "hash/maphash"

// recent is a map that is bounded: it remembers the keys that were put last. A
// key that is put again is remembered anew. It is a ring with chains by hash: with a
// Go map instead of the chains, classifying takes an eighth longer.
type recent[K comparable, V any] struct {
	limit  int
	seed   maphash.Seed
	chains []int32 // by the hash of the key: the newest entry of the chain, as its place + 1; 0: none
	links  []link  // of the entries of ring: many fit into a cache, for walking along a chain
	ring   []entry[K, V]
	next   int // the place to be written: the oldest, once all are
	known  int // entries in chains
}

// entry is a key with its value.
type entry[K comparable, V any] struct {
	key   K
	value V
}

// link is where an entry is in its chain, unless its key was forgotten or put again.
type link struct {
	hash    uint32 // of the key
	older   int32  // in the chain, as place + 1
	chained bool
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
		// Whole: growing would leave copies behind.
		r.ring, r.links = make([]entry[K, V], r.limit), make([]link, r.limit)
	}
	l := &r.links[r.next]
	if l.chained {
		r.unlink(r.linkTo(l.hash, int32(r.next+1)))
	}
	hash := r.hash(k)
	if at := r.find(hash, k); *at != 0 {
		old = &r.ring[*at-1].value
		r.unlink(at)
	}
	e, chain := &r.ring[r.next], r.chain(hash)
	e.key = k
	*l = link{hash: hash, older: *chain, chained: true}
	r.known++
	r.next++
	*chain = int32(r.next)
	r.next %= r.limit
	return &e.value, old
}

// get returns the value of a key, or nil. It is valid until the next put.
func (r *recent[K, V]) get(k K) *V {
	if r.known == 0 {
		return nil
	}
	if at := r.find(r.hash(k), k); *at != 0 {
		return &r.ring[*at-1].value
	}
	return nil
}

func (r *recent[K, V]) forget(k K) {
	if r.known > 0 {
		r.unlink(r.find(r.hash(k), k))
	}
}

func (r *recent[K, V]) hash(k K) uint32 { return uint32(maphash.Comparable(r.seed, k)) }

// chain returns the beginning of the chain of the keys with a hash.
func (r *recent[K, V]) chain(hash uint32) *int32 {
	return &r.chains[uint64(hash)*uint64(len(r.chains))>>32]
}

// find returns what leads to the entry of a key, or the end of its chain.
func (r *recent[K, V]) find(hash uint32, k K) *int32 {
	at := r.chain(hash)
	for *at != 0 && (r.links[*at-1].hash != hash || r.ring[*at-1].key != k) {
		at = &r.links[*at-1].older
	}
	return at
}

// linkTo returns what leads to a place of the ring, in the chain of a hash.
func (r *recent[K, V]) linkTo(hash uint32, place int32) *int32 {
	at := r.chain(hash)
	for *at != place {
		at = &r.links[*at-1].older
	}
	return at
}

// unlink takes the entry that at leads to, if any, out of its chain.
func (r *recent[K, V]) unlink(at *int32) {
	if *at != 0 {
		l := &r.links[*at-1]
		l.chained, *at = false, l.older
		r.known--
	}
}
