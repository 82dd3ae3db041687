package events

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
)

func TestAppendNumber(t *testing.T) {
	check := func(n uint64) {
		t.Helper()
		if got, want := string(AppendNumber([]byte("n="), n)), "n="+strconv.FormatUint(n, 10); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for power := uint64(1); power < 1e19; power *= 10 {
		check(power - 1)
		check(power)
		check(power + 1)
	}
	for shift := range 64 {
		check(1<<shift - 1)
		check(1 << shift)
		check(rand.Uint64() >> shift)
	}
	check(math.MaxUint64)
}
