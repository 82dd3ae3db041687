//go:build linux && (amd64 || arm64)

// Package probe is the only room that knows the kernel side: it loads the BPF
// object, chooses an attach mode, attaches, decodes the records and counts what
// was lost. It yields events and draws no conclusions.
package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
)

// ErrIdle is returned by [Probe.Read] when all events so far have been read
// and no other came within a tick: time to flush.
var ErrIdle = errors.New("no event for now")

// tick bounds how late an event is read: the kernel side does not wake the
// reader, which comes by this often.
const tick = 50 * time.Millisecond

// Probe is a live trace: programs attached to this kernel, and their events.
type Probe struct {
	header events.Header
	names  names
	coll   *ebpf.Collection
	links  []attached
	reader *ringbuf.Reader
	record ringbuf.Record

	missedByLinks uint64 // of links that are closed
	// What happens while programs are attached one by one, or taken off, is seen
	// in part only, and left out: before began, and after ended, if that is set.
	began, ended atomic.Uint64 // CLOCK_MONOTONIC
	detached     bool
	// All that was reported before idle has been read; nextIdle is when the
	// reader comes by again. CLOCK_MONOTONIC.
	idle, nextIdle uint64
	// uncounted names programs whose missed runs are no loss, or show elsewhere.
	uncounted map[string]bool
	symbols   *kernel.Symbols
	stacks    *stacks // nil: not wanted
}

// attached is a program in its place.
type attached struct {
	link.Link
	atReturn bool
}

// Open loads and attaches. When it returns, every ending from now on is seen.
// Errors that the operator can act on are a [kernel.Error]; if ctx ends
// meanwhile, its cause is returned. Nothing stays attached after an error.
func Open(ctx context.Context, o Options) (*Probe, error) {
	o.share()
	k, err := ready(o)
	if err != nil {
		return nil, err
	}
	var refusals []error
	for _, mode := range ladder(o.Attach) {
		p, err := openMode(ctx, k, mode, o)
		if err == nil {
			o.Log.Debug("attached", "mode", mode, "hooks", p.header.Hooks)
			k, o.Shared = nil, nil // for begin
			if err := p.begin(); err != nil {
				return nil, errors.Join(err, p.Close())
			}
			return p, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		o.Log.Debug("not taken", "mode", mode, "because", err)
		refusals = append(refusals, fmt.Errorf("%s: %w", mode, err))
	}
	return nil, refused(k, o.Attach, refusals)
}

// ready finds what every mode needs: privileges, type information, memory.
func ready(o Options) (*kernel.Kernel, error) {
	if err := kernel.CheckPrivileges(); err != nil {
		return nil, err
	}
	k, err := kernel.Running(o.Shared.types)
	if err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		o.Log.Debug("the limit on locked memory stays", "err", err) // matters before 5.11 only
	}
	return k, nil
}

// ladder is the order in which modes are tried, from cheap to dear.
func ladder(m Mode) []Mode {
	if m == Auto || m == "" {
		return []Mode{Fentry, Kprobe, Tracepoint}
	}
	return []Mode{m}
}

func refused(k *kernel.Kernel, mode Mode, refusals []error) error {
	all := errors.Join(refusals...)
	e := &kernel.Error{Kind: kernel.ErrUnsupported}
	if mode == Auto || mode == "" {
		e.What = fmt.Sprintf("no attach mode works on kernel %s: %v", k.Release, oneLine(all))
		e.Next = "closetrace check says why each was refused; it needs a kernel 5.8 or later with BPF and BTF"
	} else {
		e.What = fmt.Sprintf("attach mode does not work on kernel %s: %v", k.Release, oneLine(all))
		e.Next = "leave out --attach: closetrace takes the cheapest mode that works here"
	}
	switch {
	case kernel.Lockdown() == "confidentiality":
		e.Kind = kernel.ErrPrivilege
		e.What = fmt.Sprintf("kernel %s is locked down (confidentiality), which forbids tracing", k.Release)
		e.Next = "lockdown is set at boot, by lockdown= or by the machine's security settings; integrity does not forbid it"
	case errors.Is(all, os.ErrPermission):
		e.Kind = kernel.ErrPrivilege
		e.Next = "run as root outside of a container; seccomp and security modules also forbid tracing"
	}
	return e
}

// openMode attaches in one mode. An optional hook that refuses is left out and
// the whole begun again, because programs are compiled for what is attached.
func openMode(ctx context.Context, k *kernel.Kernel, mode Mode, o Options) (*Probe, error) {
	if err := possible(mode); err != nil {
		return nil, err
	}
	var absent []string
	for {
		pl := newPlan(k, mode, o.SharedCloses, absent)
		p, failed, err := open(ctx, k, pl, o)
		if err == nil {
			for _, h := range pl.missing {
				o.Log.Warn("not seen on this kernel", "missing", h.symbol, "unseen", h.unseen)
			}
			return p, nil
		}
		if failed == nil || !failed.optional {
			return nil, err
		}
		o.Log.Debug("left out", "hook", failed.symbol, "because", err)
		absent = append(absent, failed.symbol)
	}
}

// open loads and attaches a plan. On an error that one hook is to blame for,
// that hook is returned.
func open(ctx context.Context, k *kernel.Kernel, pl plan, o Options) (p *Probe, failed *hook, err error) {
	for i := range pl.hooks {
		if err := exists(k, &pl.hooks[i], o.Fault); err != nil {
			return nil, &pl.hooks[i], err
		}
	}
	p = &Probe{uncounted: pl.uncounted(k), symbols: kernel.OpenSymbols()}
	if o.Stacks {
		p.stacks = newStacks(p.symbols.Names)
	}
	defer func() {
		if err != nil {
			p.Close()
			p = nil
		}
	}()
	if err := p.load(k, pl, pl.hooks, o); err != nil {
		return p, blame(k, pl, o), err
	}
	for i := range pl.hooks {
		if ctx.Err() != nil {
			return p, nil, context.Cause(ctx)
		}
		if err := p.attach(&pl.hooks[i], o.Fault); err != nil {
			return p, &pl.hooks[i], err
		}
	}
	p.header, err = newHeader(k, pl, o)
	return p, nil, err
}

// begin begins to read. The ring buffer takes its place in memory, twice, once that
// of the kernel's types is given back.
func (p *Probe) begin() (err error) {
	debug.FreeOSMemory()
	if p.reader, err = ringbuf.NewReader(p.coll.Maps[bpfMapRing]); err != nil {
		return fmt.Errorf("opening the ring buffer: %w", err)
	}
	if p.stacks != nil {
		// This reads them: there is no time for it when a process is about to end.
		// The programs themselves are among them only now.
		p.symbols.Names(nil)
	}
	p.comeByAgain()
	p.began.Store(kernel.MonoNow())
	return nil
}

// blame finds the optional hook that cannot be loaded, where the rest can.
func blame(k *kernel.Kernel, pl plan, o Options) *hook {
	loads := func(only []hook) bool {
		var p Probe
		defer p.Close()
		return p.load(k, pl, only, o) == nil
	}
	if !loads(slices.DeleteFunc(slices.Clone(pl.hooks), func(h hook) bool { return h.optional })) {
		return nil // the mode is refused, or there is no right to it
	}
	for i, h := range pl.hooks {
		if h.optional && !loads([]hook{h}) {
			return &pl.hooks[i]
		}
	}
	return nil
}

func newHeader(k *kernel.Kernel, pl plan, o Options) (events.Header, error) {
	hz, err := kernel.HZ()
	return events.Header{
		Schema: events.SchemaVersion, Kernel: k.Release, Attach: string(pl.mode),
		Hooks: symbols(pl.hooks), Missing: symbols(pl.missing),
		HZ: hz, WallOffsetNS: kernel.WallOffset(), CloseWaitNS: uint64(o.CloseWait),
	}, err
}

// Header says what is attached, where, and what is missing.
func (p *Probe) Header() events.Header { return p.header }

// Read waits for the next event and overwrites ev with it. It returns
// [ErrIdle] once all are read and a tick has passed, [os.ErrClosed] after
// Close, and an error with a method Undecodable for a single bad record, after
// which reading goes on. Not for concurrent use.
func (p *Probe) Read(ev *events.Event) error {
	for {
		if err := p.reader.ReadInto(&p.record); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				p.idle = p.nextIdle
				p.comeByAgain()
				return ErrIdle
			}
			return err
		}
		if p.stacks != nil && p.stacks.keep(p.record.RawSample) {
			continue
		}
		err := p.names.decode(p.record.RawSample, ev)
		if err == nil && p.stacks != nil {
			p.stacks.take(ev)
		}
		if err != nil || p.covers(ev.MonoNS) {
			return err
		}
	}
}

// comeByAgain sets when reading ends next.
func (p *Probe) comeByAgain() {
	// The reader waits for whole milliseconds, which is up to one less.
	p.nextIdle = kernel.MonoNow() + uint64(tick-time.Millisecond)
	p.reader.SetDeadline(time.Now().Add(tick))
}

// IdleNS is the moment of the last [ErrIdle]: all that was reported before it
// has been read. It is not the present: closetrace may have been stopped, or have
// waited for a processor. CLOCK_MONOTONIC, nanoseconds.
func (p *Probe) IdleNS() uint64 { return p.idle }

// covers tells whether all programs were in place when something began.
func (p *Probe) covers(monoNS uint64) bool {
	ended := p.ended.Load()
	return monoNS >= p.began.Load() && (ended == 0 || monoNS <= ended)
}

// Losses are counted by the kernel side from the moment of attaching.
func (p *Probe) Losses() Losses {
	var l Losses
	counters := p.coll.Maps[bpfMapCounters]
	l.LostRecords = sumOverCPUs(counters, bpfCounterCOUNT_LOST)
	l.MissedProbes = sumOverCPUs(counters, bpfCounterCOUNT_NO_MEMORY)
	l.Suppressed = sumOverCPUs(counters, bpfCounterCOUNT_SUPPRESSED)
	for name, prog := range p.coll.Programs {
		if stats, err := prog.Stats(); err == nil && !p.uncounted[name] { // 5.12
			l.MissedProbes += stats.RecursionMisses
		}
	}
	l.MissedProbes += p.missedByLinks
	for _, a := range p.links {
		l.MissedProbes += missedByLink(a)
	}
	if p.detached {
		// Until then, some are just in progress.
		l.MissedProbes += sumOverCPUs(counters, bpfCounterCOUNT_BEGUN) - sumOverCPUs(counters, bpfCounterCOUNT_ENDED)
	}
	return l
}

func sumOverCPUs(m *ebpf.Map, c bpfCounter) (sum uint64) {
	var perCPU []uint64
	if m.Lookup(c, &perCPU) != nil {
		return 0
	}
	for _, n := range perCPU {
		sum += n
	}
	return sum
}

// missedByLink asks the kernel how often a kprobe could not run (6.7).
func missedByLink(a attached) uint64 {
	if a.atReturn {
		return 0
	}
	info, err := a.Info()
	if err != nil {
		return 0
	}
	perf := info.PerfEvent()
	if perf == nil {
		return 0
	}
	kprobe := perf.Kprobe()
	if kprobe == nil {
		return 0
	}
	return kprobe.Missed
}

// stack names the functions of a kernel stack, innermost first, without the
// entries of the tracing itself. caller, if not 0, is missing in it behind the
// first.
func (p *Probe) stack(id uint32, caller uint64) []string {
	var addresses [stackDepth]uint64
	if p.coll.Maps[bpfMapStacks].Lookup(id, &addresses) != nil {
		return nil
	}
	return p.symbols.Names(whole(addresses[:], caller))
}

func whole(stack []uint64, caller uint64) []uint64 {
	if caller == 0 {
		return stack
	}
	return slices.Insert(slices.Clone(stack), 1, caller)
}

// stackDepth is STACK_DEPTH of bpf/maps.h.
const stackDepth = 32

// Detach takes the programs off the kernel; events already in the buffer can
// still be read.
func (p *Probe) Detach() error {
	p.ended.CompareAndSwap(0, kernel.MonoNow())
	var errs []error
	// Returns last: the calls that are in progress come to their end.
	for _, atReturn := range []bool{false, true} {
		for _, a := range p.links {
			if a.atReturn == atReturn {
				p.missedByLinks += missedByLink(a)
				errs = append(errs, a.Close())
			}
		}
	}
	p.links, p.detached = nil, true
	return errors.Join(errs...)
}

// Close detaches and frees everything. It interrupts Read.
func (p *Probe) Close() error {
	errs := []error{p.Detach()}
	if p.reader != nil {
		errs = append(errs, p.reader.Close())
	}
	if p.coll != nil {
		p.coll.Close()
	}
	if p.symbols != nil {
		errs = append(errs, p.symbols.Close())
	}
	return errors.Join(errs...)
}
