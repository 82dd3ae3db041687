package probe

import (
	"io"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
)

// Quiet says which ordinary closes are counted and noted in the kernel instead of reported: those that send a FIN and
// nothing else, and are never abnormal. The zero value reports every close.
type Quiet struct {
	Active  bool // in ESTABLISHED: close.fin.active
	Passive bool // in CLOSE_WAIT: close.fin.passive, with the FIN received before (recv.fin)
}

// Any reports whether any close is only counted.
func (q Quiet) Any() bool { return q.Active || q.Passive }

const (
	noteSize = int(unsafe.Sizeof(bpfNote{}))
	// maxNotes is the number of notes that are kept: as many connections as the classifier remembers. It is divided
	// among the CPUs, each of which gets at least minNotes.
	maxNotes = 16384
	minNotes = 256
	// lookAhead is how many places of a ring are searched behind one without a note: a task that was interrupted while
	// it wrote one leaves a gap.
	lookAhead = 8
)

// notesPerCPU returns the size of the ring of a CPU, a power of two.
func notesPerCPU(cpus int) int {
	n := minNotes
	for n*2*cpus <= maxNotes {
		n *= 2
	}
	return n
}

// noteRings reads the notes of bpf/notes.h. They are in a ring for each CPU, which the kernel side writes at any time.
type noteRings struct {
	memory io.ReaderAt
	made   func(cpu int) uint32 // number of the last note that a CPU began to write
	perCPU uint32
	newest []uint32 // number of the newest note that was read, by CPU; the first is 1
	note   bpfNote
	word   uint64 // the last that was read
	fence  atomic.Uint32
	// since: every note of a later time was read. 0: every note.
	since uint64
}

func newNoteRings(memory io.ReaderAt, made func(cpu int) uint32, cpus, perCPU int) *noteRings {
	return &noteRings{memory: memory, made: made, perCPU: uint32(perCPU), newest: make([]uint32, cpus)}
}

// read yields the notes since the last call, in the order of each CPU. A note is valid during yield only.
func (r *noteRings) read(yield func(*bpfNote)) {
	for cpu := range r.newest {
		r.readCPU(cpu, yield)
	}
}

func (r *noteRings) readCPU(cpu int, yield func(*bpfNote)) {
	made := r.made(cpu)
	for ahead := uint32(1); ahead <= lookAhead; {
		want := r.newest[cpu] + ahead
		if int32(made-want) < 0 {
			return
		}
		stamp, complete := r.load(cpu, want)
		switch later := int32(uint32(stamp) - want); {
		case stamp != 0 && later > 0:
			if !r.skip(cpu) {
				return
			}
			ahead = 1
		case later == 0 && stamp>>32 == 0:
			r.newest[cpu], ahead = want, 1 // taken back: its close was reported
		case stamp == 0 || later < 0 || !complete:
			ahead++
		default:
			yield(&r.note)
			r.newest[cpu], ahead = want, 1
		}
	}
}

// skip goes to the oldest notes of a CPU that are not overwritten soon.
func (r *noteRings) skip(cpu int) bool {
	var newest uint32
	for i := range r.perCPU {
		if stamp, complete := r.load(cpu, i); complete && (newest == 0 || int32(uint32(stamp)-newest) > 0) {
			newest = uint32(stamp)
		}
	}
	oldest := newest - r.perCPU + r.perCPU/8
	for number := oldest; int32(number-newest) <= 0; number++ {
		if stamp, complete := r.load(cpu, number); complete && uint32(stamp) == number {
			r.newest[cpu], r.since = number-1, max(r.since, r.note.TimeNs)
			return true
		}
	}
	return false
}

// load copies the note at the place of a number. It returns its stamp and whether the copy is complete: its last stamp
// was read before the copy, and its first one after it. The low half of a stamp is a number, the high half the thread:
// 0 if the note was taken back. 0 as a whole: there is no note.
func (r *noteRings) load(cpu int, number uint32) (stamp uint64, complete bool) {
	const begun, ended = int64(unsafe.Offsetof(r.note.Begun)), int64(unsafe.Offsetof(r.note.Ended))
	at := (int64(cpu)*int64(r.perCPU) + int64(number%r.perCPU)) * int64(noteSize)
	last := r.wordAt(at + ended)
	r.fence.Add(1) // orders the reads
	if _, err := r.memory.ReadAt(unsafe.Slice((*byte)(unsafe.Pointer(&r.note)), noteSize), at); err != nil {
		return 0, false
	}
	r.fence.Add(1)
	first := r.wordAt(at + begun)
	return first, first != 0 && first == last && r.note.Begun == first
}

// wordAt returns a word of the rings, and 0 outside of them. It is read into the struct, because a variable would be
// allocated: two for each note were most of the cost.
func (r *noteRings) wordAt(at int64) uint64 {
	if _, err := r.memory.ReadAt(bytesOf(&r.word), at); err != nil {
		return 0
	}
	return r.word
}

// bytesOf returns the memory of a word.
func bytesOf(word *uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(word)), unsafe.Sizeof(*word))
}

// noteOf sets a note to what the kernel side wrote.
func noteOf(from *bpfNote, to *events.Note) {
	local, remote := portsOf(from.Ports)
	*to = events.Note{
		MonoNS: from.TimeNs, Sock: from.Sock, Netns: from.Netns, PID: from.Pid, TID: from.Tid, UID: from.Uid,
		FirstSent: from.FirstSent, FirstReceived: from.FirstReceived, SndNxt: from.SndNxt, Unsent: from.Unsent,
		LocalPort: local, RemotePort: remote, IPv6: from.Family == unix.AF_INET6,
		Accepted: from.Accepted != 0, Before: events.State(from.Before),
		Local: from.Local, Remote: from.Remote, Comm: from.Comm, Process: from.Process,
	}
}
