//go:build linux && (amd64 || arm64)

package probe

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
)

// exists returns an error if the kernel does not have the function or tracepoint of a hook, to distinguish that from a
// rejected program.
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
	switch {
	case k.HasFunc(h.symbol):
		return nil
	case h.module == "":
		return fmt.Errorf("kernel function %s: %w", h.symbol, os.ErrNotExist)
	case !kernel.HasModule(h.module):
		return errNotLoaded{h.module}
	case h.programs[0].kind == tracing && !kernel.HasModuleBTF(h.module):
		return fmt.Errorf("kernel module %s has no BTF, which fentry needs (5.11): %w", h.module, os.ErrNotExist)
	}
	return nil
}

// errNotLoaded means that a function is in a kernel module that is not loaded.
type errNotLoaded struct{ module string }

func (e errNotLoaded) Error() string { return "kernel module " + e.module + " is not loaded" }

var errRefused = errors.New("refused by the test")

// kprobeDevice is the perf event source of kprobes (4.17). It exists if the kernel was built with CONFIG_KPROBE_EVENTS.
const kprobeDevice = "/sys/bus/event_source/devices/kprobe/type"

// possible returns an error if this kernel cannot do a mode at all.
func possible(mode Mode) error {
	if mode != Kprobe {
		return nil
	}
	if _, err := os.Stat(kprobeDevice); err != nil {
		return errors.New("this kernel was built without kprobes (CONFIG_KPROBE_EVENTS)")
	}
	return nil
}

// load loads the maps, and the programs of some hooks of a plan.
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
			prog.Instructions = asm.Instructions{asm.Return()} // invalid: register 0 is not set
		}
	}
	delete(spec.Maps, bpfMapSince) // of the iterators, as the next one
	delete(spec.Maps, bpfMapSinceSmall)
	size := o.BufferSize
	if size == 0 {
		size = DefaultBufferSize
	}
	spec.Maps[bpfMapRing].MaxEntries = uint32(size)
	spec.Maps[bpfMapFilterValues].MaxEntries = max(spec.Maps[bpfMapFilterValues].MaxEntries, o.Filter.values())
	storage := k.FromFile() == nil && hasTaskStorage(spec.Maps[bpfMapCalls]) // it is found by the kernel's own types
	if !storage {
		keyByThread(spec.Maps[bpfMapCalls])
	}
	p.quietOf = o.quiet(&pl)
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("counting the CPUs: %w", err)
	}
	spec.Maps[bpfMapCounts].MaxEntries = uint32(cpus)
	notes := sizeQuiet(spec, p.quietOf, cpus)
	if err := configure(spec, k, pl, o, size, storage); err != nil {
		return err
	}
	if err := configureQuiet(spec, p.quietOf, notes, o.CloseWait); err != nil {
		return err
	}
	p.names.ResetReason = resetReasons(k.EnumNames("sk_rst_reason", "SK_RST_REASON_"))
	p.names.Syscall = kernel.SyscallName
	p.names.Stack = p.stack
	p.coll, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Cache: o.Shared.types, Programs: ebpf.ProgramOptions{KernelTypes: k.FromFile()},
	})
	if err != nil {
		return fmt.Errorf("loading: %w", brief(err))
	}
	if p.counts, err = p.coll.Maps[bpfMapCounts].Memory(); err != nil {
		return fmt.Errorf("mapping the counters: %w", err)
	}
	return errors.Join(
		fillFilter(p.coll.Maps[bpfMapFilterValues], o.Filter),
		fillCgroups(p.coll.Maps[bpfMapFilterCgroups], o.Filter),
	)
}

// hasTaskStorage reports whether tracing programs can keep a map in task storage (5.11; all of them from 5.13 on). From
// 7.0 on its memory comes from kmalloc_nolock, which on a CPU without a compare-and-exchange of 16 bytes (amd64: cx16)
// has none: so it is tried, with the storage of this process.
func hasTaskStorage(calls *ebpf.MapSpec) bool {
	if errors.Is(features.HaveProgramHelper(ebpf.Kprobe, asm.FnTaskStorageGet), ebpf.ErrNotSupported) {
		return false
	}
	trial, err := ebpf.NewMap(calls.Copy())
	if err != nil {
		return true // loading fails for the same reason, and says so
	}
	defer trial.Close()
	self, err := unix.PidfdOpen(os.Getpid(), 0) // 5.3
	if err != nil {
		return true
	}
	defer unix.Close(self)
	err = trial.Update(uint32(self), make([]byte, calls.ValueSize), ebpf.UpdateNoExist)
	return !errors.Is(err, unix.ENOMEM)
}

// maxCalls is the number of threads that can be in a call at the same time without task storage. A call that its map
// evicts is not reported.
const maxCalls = 16384

// keyByThread turns a map of task storage into one by thread id.
func keyByThread(calls *ebpf.MapSpec) {
	calls.Type = ebpf.LRUHash
	calls.MaxEntries = maxCalls
	calls.Flags = 0
	calls.Key, calls.Value = nil, nil // BTF is for task storage
}

// brief drops the verifier's log, of which the text of the error has one line. A rejection by the verifier is not a
// lack of privileges, but both are "permission denied".
func brief(err error) error {
	var verdict *ebpf.VerifierError
	rejected := errors.As(err, &verdict) && len(verdict.Log) > 0
	if errors.Is(err, os.ErrPermission) && !rejected {
		return fmt.Errorf("%w: %s", os.ErrPermission, oneLine(err))
	}
	text := errors.New(oneLine(err))
	if kernel.Scarce(err) != nil {
		return &scarcity{text, err}
	}
	return text
}

// scarcity is an error in one line that still is what [kernel.Scarce] looks for.
type scarcity struct {
	error
	cause error
}

func (s *scarcity) Unwrap() error { return s.cause }

// oneLine joins lines, and drops a guess of the library: the limit on locked memory was lifted before, or is
// irrelevant.
func oneLine(err error) string {
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	return strings.Replace(text, " (MEMLOCK may be too low, consider rlimit.RemoveMemlock)", "", 1)
}

// configure sets the variables of bpf/maps.h. They are constants for the verifier, which does not check code that they
// exclude.
func configure(spec *ebpf.CollectionSpec, k *kernel.Kernel, pl plan, o Options, size int, storage bool) error {
	f := o.Filter
	reasonArg := k.FuncParam("tcp_send_active_reset", "sk_rst_reason")
	if reasonArg > 3 {
		return fmt.Errorf("the reason is argument %d of tcp_send_active_reset; only 2 and 3 are supported", reasonArg)
	}
	many, first := firstValues(f)
	ports := len(f.Ports) + len(f.LocalPorts) + len(f.RemotePorts)
	filtered := len(f.Netns) > 0 || familyOf(f) != 0 || len(f.Cgroups) > 0 || ports > 0
	settings := map[string]any{
		bpfVarResetReasonArg:   uint8(reasonArg),
		bpfVarTraceResetReason: flag(hasReplyReason(k)),
		bpfVarHasInetShutdown:  flag(pl.has("fentry_inet_shutdown") || pl.has("kprobe_inet_shutdown")),
		bpfVarHasLockedClose:   flag(pl.has("fentry_tcp_close_locked") || pl.has("kprobe_tcp_close_locked")),
		bpfVarHasDisconnect:    flag(pl.has("fentry_tcp_disconnect") || pl.has("kprobe_tcp_disconnect")),
		bpfVarHasReset:         flag(pl.has("fentry_tcp_reset") || pl.has("kprobe_tcp_reset")),
		bpfVarInferFins:        flag(pl.infersFINs()),
		bpfVarHasRename:        flag(pl.has("tracepoint_task_rename")),
		bpfVarHasTaskStorage:   flag(storage),
		bpfVarByTracepoints:    flag(pl.mode == Tracepoint),
		bpfVarWantStacks:       flag(o.Stacks),
		bpfVarWantPeerFins:     flag(o.CloseWait == 0),
		bpfVarWakeupBytes:      uint32(size / 4),
		bpfVarHasFilter:        flag(filtered),
		bpfVarFilterFamily:     familyOf(f),
		bpfVarFilterCgroup:     flag(len(f.Cgroups) > 0),
		bpfVarFilterValuesOf:   many,
		bpfVarFilterValueOf:    first,
	}
	return set(spec, settings)
}

// configureQuiet sets the variables of the quiet tier. notes is the number of notes of a CPU.
func configureQuiet(spec *ebpf.CollectionSpec, q Quiet, notes int, closeWait time.Duration) error {
	return set(spec, map[string]any{
		bpfVarNotedStates: uint32(flag(q.Active))<<events.Established | uint32(flag(q.Passive))<<events.CloseWait,
		bpfVarNotesPerCpu: uint32(notes),
		bpfVarCloseWaitNs: uint64(closeWait),
	})
}

func set(spec *ebpf.CollectionSpec, settings map[string]any) error {
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

// attach attaches the programs of one hook.
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
	case kprobe:
		ln, err := link.Kprobe(h.symbol, loaded, nil)
		return ln, paranoid(err)
	case kretprobe:
		ln, err := link.Kretprobe(h.symbol, loaded, nil)
		return ln, paranoid(err)
	case rawPoint:
		_, name, _ := strings.Cut(h.symbol, ":")
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: loaded})
	default:
		return link.AttachTracing(link.TracingOptions{Program: loaded})
	}
}

// paranoid explains why kprobes are refused with CAP_PERFMON: kernels of Debian and Ubuntu have more levels of
// kernel.perf_event_paranoid than others.
func paranoid(err error) error {
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	text, _ := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
	level, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	if level <= 2 {
		return err
	}
	return fmt.Errorf("%w (kernel.perf_event_paranoid is %d: kprobes need CAP_SYS_ADMIN on this kernel)", err, level)
}

// resetReasons returns the names of the reasons of a RST, or nil without any.
func resetReasons(names map[uint32]string) func(uint32) string {
	if names == nil {
		return nil
	}
	delete(names, 0) // NOT_SPECIFIED
	return func(n uint32) string { return names[n] }
}
