//go:build linux && (amd64 || arm64)

// Package probe loads the BPF programs, chooses an attach mode, attaches them, decodes their records and counts
// losses. It returns events and draws no conclusions.
package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/rawevent"
)

// Probe is a live trace: the attached programs and their events.
type Probe struct {
	header  events.Header
	names   rawevent.Decoder
	decode  func(raw []byte, ev *events.Event) error
	coll    *ebpf.Collection
	counts  *ebpf.Memory // of bpf/maps.h
	linksMu sync.Mutex   // guards links and missedByLinks
	links   []attached
	reader  *ringbuf.Reader
	record  ringbuf.Record

	missedByLinks uint64 // of closed links
	// Events before began and, if it is set, after ended are discarded: while programs are attached or detached, not
	// all of them run.
	began, ended atomic.Uint64 // CLOCK_MONOTONIC
	lostBefore   events.Losses // before began
	detached     atomic.Bool
	// All events before idle were read. nextIdle is the time of the next poll. CLOCK_MONOTONIC.
	idle, nextIdle uint64
	// asleep: the kernel side was asked to wake the reader, by the variable sleeps.
	asleep bool
	sleeps *ebpf.Variable
	fence  atomic.Uint64 // see PollLater
	// uncounted are the programs whose missed runs are no loss, or are counted elsewhere.
	uncounted map[string]bool
	symbols   *kernel.Symbols
	stacks    *stacks // nil without Options.Stacks
	frames    kernelStacks
	quietOf   Quiet
	quiet     *quietSide // nil if every close is reported
	noticed   noticed
	ready     events.Event // read, and returned after the loss before it
	hasReady  bool
}

// attached is an attached program.
type attached struct {
	link.Link
	atReturn bool
}

// Open loads and attaches the programs. It sees every ending after it returned. If ctx ends meanwhile, it returns its
// cause. After an error nothing remains attached.
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
			k, o.Shared = nil, nil // so that begin can free them
			if err := p.begin(o.CloseWait); err != nil {
				return nil, errors.Join(err, p.Close())
			}
			return p, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		o.Log.Debug("mode not used", "mode", mode, "because", err)
		refusals = append(refusals, fmt.Errorf("%s: %w", mode, err))
	}
	return nil, refused(k, o.Attach, refusals)
}

// ready checks what every mode needs: privileges, type information, memory.
func ready(o Options) (*kernel.Kernel, error) {
	liftMemlock(o.Log)
	for _, check := range []func() error{kernel.CheckEnvironment, kernel.CheckPrivileges} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	k, err := kernel.Running(o.Shared.types, o.BTF)
	if err != nil {
		return nil, err
	}
	if o.BTF != "" && k.FromFile() == nil {
		o.Log.Debug("the kernel has type information of its own", "unused", o.BTF)
	}
	return k, nil
}

// liftMemlock lifts the limit on locked memory, which matters before 5.11 only.
func liftMemlock(log *slog.Logger) {
	if err := rlimit.RemoveMemlock(); err != nil {
		log.Debug("cannot lift the limit on locked memory", "err", err)
	}
}

// ladder returns the modes to try, from cheap to expensive.
func ladder(m Mode) []Mode {
	if m == Auto || m == "" {
		return []Mode{Fentry, Kprobe, Tracepoint}
	}
	return []Mode{m}
}

func refused(k *kernel.Kernel, mode Mode, refusals []error) error {
	all := errors.Join(refusals...)
	e := &hint.Error{Kind: hint.Unsupported}
	if mode == Auto || mode == "" {
		e.What = fmt.Sprintf("no attach mode works on kernel %s: %v", k.Release, oneLine(all))
		e.Hint = "closetrace check says why each was refused; it needs a kernel 5.8 or later with BPF and BTF"
	} else {
		e.What = fmt.Sprintf("attach mode does not work on kernel %s: %v", k.Release, oneLine(all))
		e.Hint = "leave out --attach: closetrace then uses the cheapest mode that works here"
	}
	if scarce := kernel.Scarce(all); scarce != nil {
		return scarce
	}
	switch {
	case kernel.Lockdown() == "confidentiality":
		e.Kind = hint.Privilege
		e.What = fmt.Sprintf("kernel %s is locked down (confidentiality), which forbids tracing", k.Release)
		e.Hint = "set lockdown=integrity at boot, or change the security settings of the machine"
	case errors.Is(all, os.ErrPermission):
		e.Kind = hint.Privilege
		e.Hint = "run as root outside of containers, seccomp filters and security profiles"
	}
	return e
}

// openMode attaches in one mode. If an optional hook fails, it starts again without it, because the configuration of
// the programs depends on what is attached.
func openMode(ctx context.Context, k *kernel.Kernel, mode Mode, o Options) (*Probe, error) {
	if err := possible(mode); err != nil {
		return nil, err
	}
	var absent []string
	refused := map[string]error{}
	for {
		pl := newPlan(k, mode, o, absent)
		p, failed, err := open(ctx, k, pl, o)
		if err == nil {
			for _, h := range pl.missing {
				h.reportMissing(o.Log, refused[h.symbol])
			}
			return p, nil
		}
		if failed == nil || !failed.optional {
			return nil, err
		}
		o.Log.Debug("hook not used", "hook", failed.symbol, "because", err)
		absent, refused[failed.symbol] = append(absent, failed.symbol), err
	}
}

// reportMissing logs what is not seen without a hook that could not be attached.
func (h *hook) reportMissing(log *slog.Logger, err error) {
	switch {
	case h.notLoaded():
		log.Debug("not loaded when tracing began", "module", h.module, "unseen", h.unseen)
	case errors.Is(err, os.ErrPermission): // fentry finds the types of a module with CAP_SYS_ADMIN alone
		log.Warn("not seen with these privileges", "missing", h.symbol, "unseen", h.unseen)
	default:
		log.Warn("not seen on this kernel", "missing", h.symbol, "unseen", h.unseen)
	}
}

// open loads and attaches a plan. It returns the hook that caused an error, or nil if none did.
func open(ctx context.Context, k *kernel.Kernel, pl plan, o Options) (p *Probe, failed *hook, err error) {
	for i := range pl.hooks {
		if err := exists(k, &pl.hooks[i], o.Fault); err != nil {
			return nil, &pl.hooks[i], err
		}
	}
	p = &Probe{uncounted: pl.uncounted(k), symbols: kernel.OpenSymbols(), frames: newKernelStacks()}
	p.decode = p.names.Decode
	if o.RecordsOnly && !o.Stacks {
		p.decode = p.names.Outline
	}
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

// begin opens the ring buffer. It frees the types of the kernel before, because the buffer is mapped twice.
func (p *Probe) begin(closeWait time.Duration) (err error) {
	debug.FreeOSMemory()
	if p.reader, err = ringbuf.NewReader(p.coll.Maps[bpfMapRing]); err != nil {
		return fmt.Errorf("opening the ring buffer: %w", err)
	}
	if p.stacks != nil {
		// Read the symbols now: later a process may end meanwhile. They include the attached programs.
		p.symbols.Names(nil)
	}
	if err := p.openQuiet(closeWait); err != nil {
		return err
	}
	p.sleeps = p.coll.Variables[bpfVarReaderSleeps]
	if err := p.empty(); err != nil {
		return fmt.Errorf("emptying the ring buffer: %w", err)
	}
	p.beginNoticing() // first: what is lost in between counts
	p.began.Store(kernel.MonoNow())
	return nil
}

// empty drops what the ring buffer holds, because it happened before tracing begins. On a busy machine attaching fills
// the buffer, and what follows would be lost. It reads no more than that, so that it ends. Stacks are kept: their calls
// may return after it.
func (p *Probe) empty() error {
	p.pollIn(0) // does not wait; an idle moment that is noticed later is that of now
	for left := p.reader.AvailableBytes(); left > 0; {
		err := p.reader.ReadInto(&p.record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		p.keepStack()
		left -= unix.BPF_RINGBUF_HDR_SZ + len(p.record.RawSample)
	}
	return nil
}

// blame returns the optional hook whose program fails to load, or nil if the mode itself fails.
func blame(k *kernel.Kernel, pl plan, o Options) *hook {
	loads := func(only []hook) bool {
		var p Probe
		defer p.Close()
		return p.load(k, pl, only, o) == nil
	}
	if !loads(slices.DeleteFunc(slices.Clone(pl.hooks), func(h hook) bool { return h.optional })) {
		return nil // the mode does not work, or privileges are missing
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
	host, boot := kernel.Host()
	return events.Header{
		Schema: events.SchemaVersion, Host: host, BootID: boot, Kernel: k.Release, Attach: string(pl.mode),
		Hooks: symbols(pl.hooks), Missing: symbols(pl.missing),
		HZ: hz, WallOffsetNS: kernel.WallOffset(), CloseWaitNS: uint64(o.CloseWait), Record: rawevent.Layout(),
	}, err
}

// Header describes the run: what is attached, on which kernel, and what is missing.
func (p *Probe) Header() events.Header { return p.header }

// Read waits for the next event and overwrites ev. It returns [events.ErrIdle] if all events were read and a tick has
// passed, [os.ErrClosed] after Close, and an error of kind [hint.Undecodable] for a single invalid record, after
// which reading can continue. A loss comes before the events after it. It is not safe for concurrent use.
func (p *Probe) Read(ev *events.Event) error {
	if p.hasReady {
		*ev, p.hasReady = p.ready, false
		return nil
	}
	err := p.read(ev)
	if err == nil && ev.MonoNS > p.noticed.at && p.noticeLoss(&p.ready) {
		*ev, p.ready, p.hasReady = p.ready, *ev, true
	}
	return err
}

func (p *Probe) read(ev *events.Event) error {
	for {
		if err := p.reader.ReadInto(&p.record); err != nil {
			return p.pause(err, ev)
		}
		if p.asleep {
			p.setPoll()
		}
		if p.keepStack() {
			continue
		}
		err := p.decode(p.record.RawSample, ev)
		ev.Record = p.record.RawSample
		if err == nil && p.stacks != nil {
			p.stacks.set(ev)
		}
		if err != nil || p.covers(ev.MonoNS) {
			return err
		}
	}
}

// keepStack keeps the record for the event that follows if it is a stack, and reports whether it is.
func (p *Probe) keepStack() bool {
	raw := p.record.RawSample
	return p.frames.keep(raw) || p.stacks != nil && p.stacks.keep(raw)
}

// covers reports whether all programs were attached at this time.
func (p *Probe) covers(monoNS uint64) bool {
	ended := p.ended.Load()
	return monoNS >= p.began.Load() && (ended == 0 || monoNS <= ended)
}

// Losses returns what was lost since tracing began. It may be called while another goroutine reads.
func (p *Probe) Losses() events.Losses {
	before := &p.lostBefore
	return events.Losses{
		LostRecords:  growth(before.LostRecords, p.count(bpfCounterCOUNT_LOST)),
		MissedProbes: growth(before.MissedProbes, p.count(bpfCounterCOUNT_NO_MEMORY)+p.missedRuns()),
		Suppressed:   growth(before.Suppressed, p.count(bpfCounterCOUNT_SUPPRESSED)),
	}
}

// missedRuns returns how often programs did not run, and how many returns of calls were not seen.
func (p *Probe) missedRuns() (n uint64) {
	p.linksMu.Lock()
	defer p.linksMu.Unlock()
	for name, prog := range p.coll.Programs {
		if stats, err := prog.Stats(); err == nil && !p.uncounted[name] { // 5.12
			n += stats.RecursionMisses
		}
	}
	n += p.missedByLinks
	for _, a := range p.links {
		n += missedByLink(a)
	}
	if p.detached.Load() {
		// Before, some calls are still running.
		n += p.count(bpfCounterCOUNT_BEGUN) - p.count(bpfCounterCOUNT_ENDED)
	}
	return n
}

// count returns a counter of the kernel side, summed over the CPUs.
func (p *Probe) count(c bpfCounter) (sum uint64) {
	const size = int64(unsafe.Sizeof(bpfCpuCounts{}))
	at := int64(unsafe.Offsetof(bpfCpuCounts{}.Of)) + 8*int64(c)
	for ; at < int64(p.counts.Size()); at += size {
		sum += p.countAt(at)
	}
	return sum
}

// notesMade returns how many notes a CPU has begun to write, modulo 2^32.
func (p *Probe) notesMade(cpu int) uint32 {
	const size, at = int64(unsafe.Sizeof(bpfCpuCounts{})), int64(unsafe.Offsetof(bpfCpuCounts{}.Notes))
	return uint32(p.countAt(int64(cpu)*size + at))
}

// countAt returns a word of the counters, and 0 outside of them.
func (p *Probe) countAt(at int64) (word uint64) {
	if _, err := p.counts.ReadAt(bytesOf(&word), at); err != nil {
		return 0
	}
	return word
}

// missedByLink returns how often a kprobe could not run (6.7).
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

// stack returns the functions of a kernel stack, innermost first, without those of tracing. caller, if it is not 0,
// is the second function, which the stack lacks.
func (p *Probe) stack(id uint32, caller uint64) []string {
	addresses, found := p.frames.take(id)
	if !found {
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

// Detach detaches the programs, and ends the wait of Read. Events in the buffer can still be read.
func (p *Probe) Detach() error {
	p.ended.CompareAndSwap(0, kernel.MonoNow())
	p.linksMu.Lock()
	defer p.linksMu.Unlock()
	var errs []error
	// Returns last, so that running calls are still reported.
	for _, atReturn := range []bool{false, true} {
		for _, a := range p.links {
			if a.atReturn == atReturn {
				p.missedByLinks += missedByLink(a)
				errs = append(errs, a.Close())
			}
		}
	}
	if p.reader != nil && !p.detached.Load() {
		errs = append(errs, p.reader.Flush())
	}
	p.links = nil
	p.detached.Store(true)
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
