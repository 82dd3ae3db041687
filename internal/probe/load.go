//go:build linux && (amd64 || arm64)

package probe

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"

	"github.com/closetrace/closetrace/internal/kernel"
)

// exists tells whether the kernel has the place that a hook wants, so that a
// missing function is told from a refused program.
func exists(k *kernel.Kernel, h *hook, fault Fault) error {
	if fault.hits(h, AtLookup) {
		return errRefused
	}
	if _, name, ok := strings.Cut(h.symbol, ":"); ok {
		if !k.HasTracepoint(name) {
			return fmt.Errorf("tracepoint %s: %w", h.symbol, os.ErrNotExist)
		}
		return nil
	}
	if !k.HasFunc(h.symbol) {
		return fmt.Errorf("kernel function %s: %w", h.symbol, os.ErrNotExist)
	}
	return nil
}

var errRefused = errors.New("refused, as the test asked for")

// kprobeDevice is the perf event source of kprobes (4.17), there if the kernel
// was built with CONFIG_KPROBE_EVENTS.
const kprobeDevice = "/sys/bus/event_source/devices/kprobe/type"

// possible tells early and in plain words that this kernel cannot do a mode.
func possible(mode Mode) error {
	if mode != Kprobe {
		return nil
	}
	if _, err := os.Stat(kprobeDevice); err != nil {
		return errors.New("this kernel was built without kprobes (CONFIG_KPROBE_EVENTS)")
	}
	return nil
}

// load puts the programs of some hooks of a plan, and the maps, into the kernel.
func (p *Probe) load(k *kernel.Kernel, pl plan, only []hook, o Options) error {
	object, err := o.Shared.object(k)
	if err != nil {
		return fmt.Errorf("reading the BPF object: %w", err)
	}
	spec := object.Copy()
	for name, prog := range spec.Programs {
		h := hookOf(only, name)
		switch {
		case h == nil:
			delete(spec.Programs, name)
		case o.Fault.hits(h, AtLoad):
			prog.Instructions = asm.Instructions{asm.Return()} // of what register 0 never got
		}
	}
	delete(spec.Maps, bpfMapSince) // of the iterators, as the next
	delete(spec.Maps, bpfMapSinceSmall)
	size := o.BufferSize
	if size == 0 {
		size = DefaultBufferSize
	}
	spec.Maps[bpfMapRing].MaxEntries = uint32(size)
	storage := hasTaskStorage()
	if !storage {
		followByThread(spec.Maps[bpfMapCalls])
	}
	if err := configure(spec, k, pl, o, size, storage); err != nil {
		return err
	}
	p.names.resetReason = k.EnumNames("sk_rst_reason", "SK_RST_REASON_")
	delete(p.names.resetReason, 0) // NOT_SPECIFIED is no reason
	p.names.syscall = kernel.SyscallName
	p.names.stack = p.stack
	p.coll, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Cache: o.Shared.types})
	if err != nil {
		return fmt.Errorf("loading: %w", brief(err))
	}
	return errors.Join(
		fillFilter(p.coll.Maps[bpfMapFilterValues], o.Filter),
		fillCgroups(p.coll.Maps[bpfMapFilterCgroups], o.Filter),
	)
}

// hasTaskStorage tells whether tracing programs have task storage (5.11; for
// all of them from 5.13 on).
func hasTaskStorage() bool {
	return !errors.Is(features.HaveProgramHelper(ebpf.Kprobe, asm.FnTaskStorageGet), ebpf.ErrNotSupported)
}

// callsFollowed is how many threads can be in a close or shutdown at a time
// where there is no task storage. A call that its map forgets is not told.
const callsFollowed = 16384

// followByThread makes a map of task storage one by thread id.
func followByThread(calls *ebpf.MapSpec) {
	calls.Type = ebpf.LRUHash
	calls.MaxEntries = callsFollowed
	calls.Flags = 0
	calls.Key, calls.Value = nil, nil // BTF is for task storage
}

// brief leaves out the verifier's log, of which the error's text has one line.
// The verifier's no is the kernel's, not a lack of privileges, though both come
// as "permission denied".
func brief(err error) error {
	var verdict *ebpf.VerifierError
	rejected := errors.As(err, &verdict) && len(verdict.Log) > 0
	if errors.Is(err, os.ErrPermission) && !rejected {
		return fmt.Errorf("%w: %s", os.ErrPermission, oneLine(err))
	}
	return errors.New(oneLine(err))
}

// oneLine also drops a guess of the library's: the limit on locked memory was
// lifted before, or did not matter.
func oneLine(err error) string {
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	return strings.Replace(text, " (MEMLOCK may be too low, consider rlimit.RemoveMemlock)", "", 1)
}

// configure writes the settings of bpf/maps.h, which are constants to the
// verifier: what they exclude is not even checked.
func configure(spec *ebpf.CollectionSpec, k *kernel.Kernel, pl plan, o Options, size int, storage bool) error {
	f := o.Filter
	reasonArg := k.FuncParam("tcp_send_active_reset", "sk_rst_reason")
	if reasonArg > 3 {
		return fmt.Errorf("tcp_send_active_reset takes its reason as argument %d, 2 or 3 is known", reasonArg)
	}
	family := uint16(0)
	if f.IPv4 != f.IPv6 {
		family = 10 // AF_INET6
		if f.IPv4 {
			family = 2 // AF_INET
		}
	}
	many, first := firstValues(f)
	settings := map[string]any{
		bpfVarResetReasonArg:   uint8(reasonArg),
		bpfVarTraceResetReason: flag(replyReason(k)),
		bpfVarHasInetShutdown:  flag(pl.has("fentry_inet_shutdown") || pl.has("kprobe_inet_shutdown")),
		bpfVarHasLockedClose:   flag(pl.has("fentry_tcp_close_locked") || pl.has("kprobe_tcp_close_locked")),
		bpfVarHasDisconnect:    flag(pl.has("fentry_tcp_disconnect") || pl.has("kprobe_tcp_disconnect")),
		bpfVarHasTaskStorage:   flag(storage),
		bpfVarByTracepoints:    flag(pl.mode == Tracepoint),
		bpfVarWantStacks:       flag(o.Stacks),
		bpfVarWantPeerFins:     flag(o.CloseWait == 0),
		bpfVarWakeupBytes:      uint32(size / 4),
		bpfVarFilterNetns:      f.Netns,
		bpfVarFilterFamily:     family,
		bpfVarFilterCgroup:     flag(len(f.Cgroups) > 0),
		bpfVarFilterValuesOf:   many,
		bpfVarFilterValueOf:    first,
	}
	for name, value := range settings {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

func flag(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}

// valuesOf is what a filter lets pass, by field.
func valuesOf(f Filter) [bpfFilterFieldFILTER_FIELDS][]uint32 {
	wide := func(ports []uint16) (all []uint32) {
		for _, port := range ports {
			all = append(all, uint32(port))
		}
		return all
	}
	return [bpfFilterFieldFILTER_FIELDS][]uint32{
		bpfFilterFieldFILTER_PID:         f.PIDs,
		bpfFilterFieldFILTER_PORT:        wide(f.Ports),
		bpfFilterFieldFILTER_LOCAL_PORT:  wide(f.LocalPorts),
		bpfFilterFieldFILTER_REMOTE_PORT: wide(f.RemotePorts),
	}
}

// firstValues says of each field how many values it has, and the first.
func firstValues(f Filter) (many, first [bpfFilterFieldFILTER_FIELDS]uint32) {
	for field, values := range valuesOf(f) {
		if many[field] = uint32(len(values)); len(values) > 0 {
			first[field] = values[0]
		}
	}
	return many, first
}

func fillFilter(m *ebpf.Map, f Filter) error {
	for field, values := range valuesOf(f) {
		for _, v := range values {
			if err := m.Put(bpfFilterKey{Field: bpfFilterField(field), Value: v}, uint8(1)); err != nil {
				return fmt.Errorf("setting the filter: %w", err)
			}
		}
	}
	return nil
}

func fillCgroups(m *ebpf.Map, f Filter) error {
	for _, id := range f.Cgroups {
		if err := m.Put(id, uint8(1)); err != nil {
			return fmt.Errorf("setting the filter by cgroup: %w", err)
		}
	}
	return nil
}

// attach puts the programs of one hook in place.
func (p *Probe) attach(h *hook, fault Fault) error {
	if fault.hits(h, AtAttach) {
		return errRefused
	}
	for _, prog := range h.programs {
		ln, err := p.link(h, prog)
		if err != nil {
			return fmt.Errorf("attaching %s: %w", prog.name, err)
		}
		p.links = append(p.links, attached{ln, prog.atReturn()})
	}
	return nil
}

func (p *Probe) link(h *hook, prog program) (link.Link, error) {
	loaded := p.coll.Programs[prog.name]
	switch prog.kind {
	case entry:
		ln, err := link.Kprobe(h.symbol, loaded, nil)
		return ln, paranoid(err)
	case ret:
		ln, err := link.Kretprobe(h.symbol, loaded, nil)
		return ln, paranoid(err)
	case rawPoint:
		_, name, _ := strings.Cut(h.symbol, ":")
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: loaded})
	default:
		return link.AttachTracing(link.TracingOptions{Program: loaded})
	}
}

// paranoid explains why kprobes are refused to those who have CAP_PERFMON: the
// kernels of Debian and Ubuntu know higher levels of kernel.perf_event_paranoid
// than others do.
func paranoid(err error) error {
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	text, _ := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
	level, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	if level <= 2 {
		return err
	}
	return fmt.Errorf("%w (kernel.perf_event_paranoid is %d: kprobes then take CAP_SYS_ADMIN on this kernel)", err, level)
}
