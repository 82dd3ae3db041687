//go:build linux && (amd64 || arm64)

package probe

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/closetrace/closetrace/internal/events"
)

// quietSide is what the kernel side keeps of the closes that it only counts, and of the FINs that they answer.
type quietSide struct {
	rings    *noteRings
	note     events.Note // reused
	fins     openFINs
	wait     uint64                 // how long a FIN may be unanswered, nanoseconds
	before   map[events.Path]uint64 // what was counted before all programs were attached
	lateFINs atomic.Uint64          // FINs that a reported event answered too late
}

// countedPaths are the counters of bpf/maps.h for paths.
var countedPaths = map[bpfCounter]events.Path{
	bpfCounterCOUNT_ACTIVE:   events.CloseFINActive,
	bpfCounterCOUNT_PASSIVE:  events.CloseFINPassive,
	bpfCounterCOUNT_PEER_FIN: events.RecvFIN,
}

// quiet returns what this plan can count. The evidence of a close must be read under the socket lock, and that a close
// under TCP_REPAIR sends no FIN shows in tcp_disconnect.
func (o *Options) quiet(pl *plan) Quiet {
	missing := symbols(pl.missing)
	if slices.Contains(missing, "__tcp_close") || slices.Contains(missing, "tcp_disconnect") {
		return Quiet{}
	}
	return Quiet{Active: o.Quiet.Active, Passive: o.Quiet.Passive && o.CloseWait > 0}
}

// sizeQuiet sets the size of the maps that the quiet tier needs, and returns that of the notes of a CPU.
func sizeQuiet(spec *ebpf.CollectionSpec, q Quiet, cpus int) int {
	if !q.Any() {
		return 1
	}
	n := notesPerCPU(cpus)
	spec.Maps[bpfMapNotes].MaxEntries = uint32(n * cpus)
	if q.Passive {
		spec.Maps[bpfMapOpenFins].MaxEntries = finPlaces
		spec.Maps[bpfMapMoreFins].MaxEntries = finPlaces
	}
	return n
}

// openQuiet maps the notes.
func (p *Probe) openQuiet(wait time.Duration) error {
	if !p.quietOf.Any() {
		return nil
	}
	notes := p.coll.Maps[bpfMapNotes]
	memory, err := notes.Memory()
	if err != nil {
		return fmt.Errorf("mapping the notes: %w", err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("counting the CPUs: %w", err)
	}
	p.quiet = &quietSide{
		rings: newNoteRings(memory, p.notesMade, cpus, int(notes.MaxEntries())/cpus),
		fins:  openFINs{p.coll.Maps[bpfMapOpenFins], p.coll.Maps[bpfMapMoreFins]},
		wait:  uint64(wait),
	}
	return nil
}

// Notes yields the closes that were counted and noted since the last call. A note is valid during yield only. All
// closes since a time (CLOCK_MONOTONIC) were yielded, now or before; the others may have been overwritten. 0: all
// closes.
func (p *Probe) Notes(yield func(*events.Note)) (since uint64) {
	if p.quiet == nil {
		return 0
	}
	p.quiet.rings.read(func(note *bpfNote) {
		noteOf(note, &p.quiet.note)
		yield(&p.quiet.note)
	})
	return p.quiet.rings.since
}

// PeerFIN returns when the FIN of the peer was received that an event answers, if that FIN was noted, and forgets it.
func (p *Probe) PeerFIN(ev *events.Event) (monoNS uint64, ok bool) {
	if p.quiet == nil || ev.Sock == 0 {
		return 0, false
	}
	monoNS, ok = p.quiet.fins.take(ev)
	if ok && ev.MonoNS-monoNS > p.quiet.wait {
		p.quiet.lateFINs.Add(1)
	}
	return monoNS, ok
}

// Counted returns how many endings were counted instead of reported, by path. It is nil if all are reported. At the
// end of a run, a FIN that was not answered counts. It may be called while another goroutine reads.
func (p *Probe) Counted() map[events.Path]uint64 {
	if p.quiet == nil {
		return nil
	}
	counted := p.counted()
	for path, n := range p.quiet.before {
		counted[path] -= n
	}
	counted[events.RecvFIN] += p.quiet.lateFINs.Load()
	if p.detached.Load() {
		counted[events.RecvFIN] += p.quiet.fins.count()
	}
	return counted
}

func (p *Probe) counted() map[events.Path]uint64 {
	counted := map[events.Path]uint64{}
	for counter, path := range countedPaths {
		counted[path] = p.count(counter)
	}
	return counted
}
