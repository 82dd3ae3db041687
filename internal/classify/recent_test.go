package classify

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestRecentIsBounded(t *testing.T) {
	r := newRecent[int, int](3)
	for _, k := range []int{1, 2, 1, 3} { // the first 1 makes room for 3
		*r.put(k) = k
	}
	for _, k := range []int{1, 2, 3} {
		if v := r.get(k); v == nil || *v != k {
			t.Errorf("%d is forgotten", k)
		}
	}
	*r.put(4) = 4
	if r.get(2) != nil || r.get(1) == nil {
		t.Error("the one that was forgotten is not the oldest")
	}
	r.forget(1)
	if r.get(1) != nil {
		t.Error("1 is not forgotten")
	}
}

// recent knows at any moment what a plain list of the last puts does.
func TestRecentAgainstList(t *testing.T) {
	const limit = 300
	r, random := newRecent[int, int](limit), rand.New(rand.NewPCG(1, 2))
	var puts []int // keys; -1: put again since, or forgotten
	drop := func(k int) {
		if i := slices.Index(puts, k); i >= 0 {
			puts[i] = -1
		}
	}
	for step := range 20 * limit {
		k := random.IntN(2 * limit)
		drop(k)
		if random.IntN(10) == 0 {
			r.forget(k)
		} else {
			*r.put(k) = k
			puts = append(puts[max(0, len(puts)+1-limit):], k)
		}
		for range 5 {
			k := random.IntN(2 * limit)
			if v := r.get(k); (v != nil) != slices.Contains(puts, k) || v != nil && *v != k {
				t.Fatalf("step %d: the value of %d is %v", step, k, v)
			}
		}
	}
}
