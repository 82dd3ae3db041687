package classify

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// The last notes are found by their ports, the newest first, and no others.
func TestNotesByPorts(t *testing.T) {
	var kept notes
	for range kept.of(1, 2) {
		t.Fatal("there is none")
	}
	random := rand.New(rand.NewPCG(1, 2))
	var all []events.Note
	for step := range 5 * maxNotes {
		n := events.Note{MonoNS: uint64(step), LocalPort: uint16(random.IntN(300)), RemotePort: uint16(random.IntN(50))}
		kept.add(&n)
		all = append(all, n)
		if step%1000 != 0 {
			continue
		}
		var want, got []uint64
		for i := len(all) - 1; i >= max(0, len(all)-maxNotes); i-- {
			if all[i].LocalPort == n.LocalPort && all[i].RemotePort == n.RemotePort {
				want = append(want, all[i].MonoNS)
			}
		}
		for found := range kept.of(n.LocalPort, n.RemotePort) {
			got = append(got, found.MonoNS)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("step %d: got %v, want %v", step, got, want)
		}
	}
}

// BenchmarkNote measures what a note costs that is never asked for.
func BenchmarkNote(b *testing.B) {
	c := New(testHeader)
	n := noted(ordinaryClose(1))
	for b.Loop() {
		n.LocalPort, n.Sock = n.LocalPort+7, n.Sock+64
		c.notes.add(&n)
		c.history.endSocket(&n)
	}
}
