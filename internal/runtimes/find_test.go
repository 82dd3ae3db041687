package runtimes

import (
	"slices"
	"testing"

	"github.com/closetrace/closetrace/internal/hint"
)

// fakeCgroups are paths; an id is the index of a path.
type fakeCgroups []string

func (c fakeCgroups) Each(visit func(path string, id uint64) bool) {
	for id, path := range c {
		visit(path, uint64(id))
	}
}

func TestFind(t *testing.T) {
	const (
		one = "0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
		two = "0f4b1cffffff5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	)
	cgroups := fakeCgroups{
		"/", "/system.slice/nginx.service", "/docker/" + one, "/docker/" + one + "/docker/" + two, "/docker/" + one + "/init",
		"/machine.slice/libpod-" + one + ".scope", "/system.slice/docker-" + two + ".scope",
	}
	for prefix, want := range map[string][]uint64{
		one[:7]: {2, 5}, // cgroup 4 is below 2
		two:     {3, 6},
		one[:6]: nil, "1": nil, one + "0": nil,
	} {
		got, err := Find(cgroups, nil, prefix)
		if !slices.Equal(got, want) || (want == nil) != hint.Is(err, hint.Usage) {
			t.Errorf("%q: %d, %v, want %d", prefix, got, err, want)
		}
	}
}
