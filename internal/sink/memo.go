package sink

// memoSlots is the number of results that a memo keeps: one for each value of slotOf, and more than there are paths.
const memoSlots = 1 << 8

// memo remembers recent results of a function that depends on its argument alone. A result gives its slot to the next
// one with the same hash, so that a memo has a fixed size and a look-up costs one hash and one comparison: a quarter of
// what a map costs, for several texts of each line.
type memo[K ~string, V any] struct {
	compute func(K) V
	slots   [memoSlots]struct {
		key    K
		result V
		used   bool
	}
}

func newMemo[K ~string, V any](compute func(K) V) *memo[K, V] {
	return &memo[K, V]{compute: compute}
}

func (m *memo[K, V]) get(key K) V {
	s := &m.slots[slotOf(string(key))]
	if !s.used || s.key != key {
		s.key, s.result, s.used = key, m.compute(key), true
	}
	return s.result
}

// slotOf hashes a text by its length and three of its bytes. The factors are chosen so that few paths and titles share
// a slot. Texts that do are computed again each time.
func slotOf(key string) uint8 {
	n := len(key)
	if n == 0 {
		return 0
	}
	return uint8(n)*9 + key[0]*33 + key[n/3]*13 + key[n-1]*19
}
