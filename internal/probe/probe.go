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
	links  []link.Link
	reader *ringbuf.Reader
	record ringbuf.Record

	missedByLinks uint64 // of links that are closed
	// taskOnly names programs whose missed runs are no loss.
	taskOnly map[string]bool
	symbols  kernel.Symbols
}

// Open loads and attaches. When it returns, every ending from now on is seen.
// Errors that the operator can act on are a [kernel.Error]; if ctx ends
// meanwhile, its cause is returned. Nothing stays attached after an error.
func Open(ctx context.Context, o Options) (*Probe, error) {
	if err := kernel.CheckPrivileges(); err != nil {
		return nil, err
	}
	k, err := kernel.Running()
	if err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		o.Log.Debug("the limit on locked memory stays", "err", err) // matters before 5.11 only
	}
	var refusals []error
	for _, mode := range ladder(o.Attach) {
		p, err := openMode(ctx, k, mode, o)
		if err == nil {
			o.Log.Debug("attached", "mode", mode, "hooks", p.header.Hooks)
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
		e.Next = "closetrace -v says why each was refused; it needs a kernel 5.8 or later with BPF and BTF"
	} else {
		e.What = fmt.Sprintf("attach mode does not work on kernel %s: %v", k.Release, oneLine(all))
		e.Next = "leave out --attach: closetrace takes the cheapest mode that works here"
	}
	if errors.Is(all, os.ErrPermission) {
		e.Kind = kernel.ErrPrivilege
		e.Next = "run as root outside of a container; kernel lockdown (confidentiality) and seccomp also forbid tracing"
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
		pl := newPlan(k, mode, absent)
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
		if err := exists(k, pl.mode, &pl.hooks[i]); err != nil {
			return nil, &pl.hooks[i], err
		}
	}
	p = &Probe{taskOnly: pl.taskOnly()}
	defer func() {
		if err != nil {
			p.Close()
			p = nil
		}
	}()
	if err := p.load(k, pl, o); err != nil {
		return p, nil, err
	}
	for i := range pl.hooks {
		if ctx.Err() != nil {
			return p, nil, context.Cause(ctx)
		}
		if err := p.attach(&pl.hooks[i]); err != nil {
			return p, &pl.hooks[i], err
		}
	}
	if p.reader, err = ringbuf.NewReader(p.coll.Maps[bpfMapRing]); err != nil {
		return p, nil, fmt.Errorf("opening the ring buffer: %w", err)
	}
	p.reader.SetDeadline(time.Now().Add(tick))
	p.header, err = newHeader(k, pl)
	return p, nil, err
}

func newHeader(k *kernel.Kernel, pl plan) (events.Header, error) {
	hz, err := kernel.HZ()
	return events.Header{
		Schema: events.SchemaVersion, Kernel: k.Release, Attach: string(pl.mode),
		Hooks: symbols(pl.hooks), Missing: symbols(pl.missing),
		HZ: hz, WallOffsetNS: kernel.WallOffset(),
	}, err
}

// Header says what is attached, where, and what is missing.
func (p *Probe) Header() events.Header { return p.header }

// Read waits for the next event and overwrites ev with it. It returns
// [ErrIdle] once all are read and a tick has passed, [os.ErrClosed] after
// Close, and an error with a method Undecodable for a single bad record, after
// which reading goes on. Not for concurrent use.
func (p *Probe) Read(ev *events.Event) error {
	err := p.reader.ReadInto(&p.record)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.reader.SetDeadline(time.Now().Add(tick))
		return ErrIdle
	}
	if err != nil {
		return err
	}
	return p.names.decode(p.record.RawSample, ev)
}

// Losses are counted by the kernel side from the moment of attaching.
func (p *Probe) Losses() Losses {
	var l Losses
	counters := p.coll.Maps[bpfMapCounters]
	l.LostRecords = sumOverCPUs(counters, bpfCounterCOUNT_LOST)
	l.MissedProbes = sumOverCPUs(counters, bpfCounterCOUNT_UNFINISHED)
	l.Suppressed = sumOverCPUs(counters, bpfCounterCOUNT_SUPPRESSED)
	for name, prog := range p.coll.Programs {
		if stats, err := prog.Stats(); err == nil && !p.taskOnly[name] { // 5.12
			l.MissedProbes += stats.RecursionMisses
		}
	}
	l.MissedProbes += p.missedByLinks
	for _, ln := range p.links {
		l.MissedProbes += missedByLink(ln)
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

// missedByLink asks the kernel how often a kprobe or kretprobe could not run,
// for want of a return instance for example (6.7).
func missedByLink(ln link.Link) uint64 {
	info, err := ln.Info()
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
// entries of the tracing itself.
func (p *Probe) stack(id uint32) []string {
	var addresses [stackDepth]uint64
	if p.coll.Maps[bpfMapStacks].Lookup(id, &addresses) != nil {
		return nil
	}
	return p.symbols.Names(addresses[:])
}

// stackDepth is STACK_DEPTH of bpf/maps.h.
const stackDepth = 32

// Detach takes the programs off the kernel; events already in the buffer can
// still be read.
func (p *Probe) Detach() error {
	var errs []error
	for _, ln := range p.links {
		p.missedByLinks += missedByLink(ln)
		errs = append(errs, ln.Close())
	}
	p.links = nil
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
	return errors.Join(errs...)
}
