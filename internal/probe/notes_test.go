package probe

import (
	"net/netip"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
)

// rings are notes in memory, as the kernel side writes them.
type rings struct {
	notes  []bpfNote
	perCPU uint32
	made   []uint32
}

func newRings(cpus, perCPU int) *rings {
	return &rings{make([]bpfNote, cpus*perCPU), uint32(perCPU), make([]uint32, cpus)}
}

func (r *rings) ReadAt(p []byte, off int64) (int, error) {
	return copy(p, unsafe.Slice((*byte)(unsafe.Pointer(&r.notes[0])), len(r.notes)*noteSize)[off:]), nil
}

// last is the number of the last note of a CPU.
func (r *rings) last(cpu int) uint32 { return r.made[cpu] }

// write writes the next note of a CPU; its time is a thousand times its number. It may leave it incomplete.
func (r *rings) write(cpu int, complete bool) {
	r.made[cpu]++
	number := r.made[cpu]
	n := &r.notes[uint32(cpu)*r.perCPU+number%r.perCPU]
	stamp := 77<<32 | uint64(number)
	ended := n.Ended
	*n = bpfNote{Begun: stamp, TimeNs: uint64(number) * 1000, Ended: ended}
	if complete {
		n.Ended = stamp
	}
}

func numbers(from, to int) (all []uint64) {
	for n := from; n <= to; n++ {
		all = append(all, uint64(n)*1000)
	}
	return all
}

// A RST reads all notes since the last one, 16,384 at most: each must be cheap.
func TestReadingNotesAllocatesNothing(t *testing.T) {
	const perCPU = 64
	r := newRings(2, perCPU)
	reader := newNoteRings(r, r.last, 2, perCPU)
	read := 0
	yield := func(*bpfNote) { read++ }
	if n := testing.AllocsPerRun(10, func() {
		r.write(0, true)
		r.write(1, true)
		reader.read(yield)
	}); n != 0 || read != 22 {
		t.Errorf("%v allocations for two notes, %d read in all", n, read)
	}
}

func TestNotesAreReadOnce(t *testing.T) {
	const perCPU = 64
	r := newRings(2, perCPU)
	reader := newNoteRings(r, r.last, 2, perCPU)
	read := func() (times []uint64) {
		reader.read(func(n *bpfNote) { times = append(times, n.TimeNs) })
		return times
	}
	check := func(what string, want []uint64) {
		t.Helper()
		if got := read(); !slices.Equal(got, want) {
			t.Errorf("%s: read %v, want %v", what, got, want)
		}
	}
	check("at first", nil)
	for range 3 {
		r.write(1, true)
	}
	r.write(0, true)
	check("one and three", append(numbers(1, 1), numbers(1, 3)...))
	check("again", nil)
	for range perCPU {
		r.write(0, true)
	}
	check("a whole ring", numbers(2, perCPU+1))
	if reader.since != 0 {
		t.Errorf("nothing was overwritten, and all notes were read since %d", reader.since)
	}
}

// Notes that were overwritten are not made up, and the reader knows since when it has them all.
func TestNotesAreOverwritten(t *testing.T) {
	const perCPU, many = 64, 1000
	r := newRings(1, perCPU)
	reader := newNoteRings(r, r.last, 1, perCPU)
	for range many {
		r.write(0, true)
	}
	var times []uint64
	reader.read(func(n *bpfNote) { times = append(times, n.TimeNs) })
	if len(times) == 0 || times[len(times)-1] != many*1000 || len(times) > perCPU || len(times) < perCPU/2 {
		t.Fatalf("read %v", times)
	}
	if !slices.Equal(times, numbers(many+1-len(times), many)) {
		t.Errorf("read %v, which are not the last %d", times, len(times))
	}
	if reader.since != times[0] {
		t.Errorf("all since %d, want %d", reader.since, times[0])
	}
}

// A note that is being written is not read, and does not hold up those behind it for ever.
func TestNotesBeingWritten(t *testing.T) {
	const perCPU = 64
	r := newRings(1, perCPU)
	reader := newNoteRings(r, r.last, 1, perCPU)
	r.write(0, true)
	r.write(0, false)
	var times []uint64
	read := func() { reader.read(func(n *bpfNote) { times = append(times, n.TimeNs) }) }
	read()
	if !slices.Equal(times, numbers(1, 1)) {
		t.Errorf("read %v, want the first only", times)
	}
	r.notes[2].Ended = r.notes[2].Begun
	r.write(0, false)
	r.write(0, true)
	read()
	if want := []uint64{1000, 2000, 4000}; !slices.Equal(times, want) {
		t.Errorf("read %v, want %v", times, want)
	}
	for range perCPU {
		r.write(0, false)
	}
	read()
	if len(times) != 3 {
		t.Errorf("incomplete notes were read: %v", times)
	}
}

// Notes that were taken back have no close, however many there are in a row. After 2³¹ notes of a CPU, a place that has
// none is not one of a later number.
func TestNotesTakenBack(t *testing.T) {
	const perCPU = 64
	for _, first := range []uint32{0, 1 << 31, 1<<32 - 40} {
		r := newRings(1, perCPU)
		reader := newNoteRings(r, r.last, 1, perCPU)
		r.made[0], reader.newest[0] = first, first
		for range perCPU / 2 {
			r.write(0, true)
			r.notes[r.made[0]%perCPU].Begun &= 1<<32 - 1 // as unnote does
		}
		r.write(0, true)
		read := 0
		yield := func(n *bpfNote) {
			if read++; n.Begun != n.Ended || read > perCPU {
				t.Fatalf("after %d: read %+v, the %d.", first, n, read)
			}
		}
		reader.read(yield)
		if read != 1 || reader.since != 0 || reader.newest[0] != r.made[0] {
			t.Errorf("after %d: read %d, all since %d", first, read, reader.since)
		}
		r.notes[(r.made[0]+1)%perCPU] = bpfNote{}
		r.made[0]++
		reader.read(yield)
		if read != 1 || reader.since != 0 {
			t.Errorf("after %d: read %d, all since %d, of a place without a note", first, read, reader.since)
		}
	}
}

func TestCloseOfNote(t *testing.T) {
	note := bpfNote{
		TimeNs: 5, Sock: 6, Netns: 7, Pid: 8, Tid: 9, Uid: 10, FirstSent: 11, FirstReceived: 12, SndNxt: 13, Unsent: 14,
		Family: unix.AF_INET, Ports: portPair(443, 51234), Before: uint8(events.CloseWait),
		Local: [16]uint8{10, 0, 0, 5}, Remote: [16]uint8{10, 0, 0, 9},
	}
	copy(note.Comm[:], "worker")
	copy(note.Process[:], "nginx")
	var kept events.Note
	noteOf(&note, &kept)
	got := kept.Close()
	want := events.Event{
		Kind: events.KindClose, MonoNS: 5, Sock: 6, Netns: 7, FirstSent: 11, FirstReceived: 12, SndNxt: 13, UnsentBytes: 14,
		Flags: events.SentFIN | events.TaskContext | events.UnderLock | events.PeerFIN | events.Connected,
		Local: netip.MustParseAddrPort("10.0.0.5:443"), Remote: netip.MustParseAddrPort("10.0.0.9:51234"),
		Task:   events.Task{PID: 8, TID: 9, UID: 10, Comm: "worker", Process: "nginx"},
		Before: events.CloseWait, After: events.LastAck,
	}
	if got.Task != want.Task || got.Local != want.Local || got.Remote != want.Remote || got.Flags != want.Flags ||
		got.SndNxt != want.SndNxt || got.After != want.After || got.FirstReceived != want.FirstReceived {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
