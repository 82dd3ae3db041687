package live

import (
	"runtime"
	"testing"
)

// A large machine lends a few of its processors, unless the user says how many.
func TestLimitProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, c := range []struct {
		variable   string
		have, want int
	}{
		{"", 64, maxProcessors},
		{"", maxProcessors, maxProcessors},
		{"", 1, 1},
		{"64", 64, 64},
	} {
		t.Setenv("GOMAXPROCS", c.variable)
		runtime.GOMAXPROCS(c.have)
		limitProcessors()
		if got := runtime.GOMAXPROCS(0); got != c.want {
			t.Errorf("%d processors, GOMAXPROCS=%s: %d, want %d", c.have, c.variable, got, c.want)
		}
	}
}
