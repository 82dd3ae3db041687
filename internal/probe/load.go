//go:build linux && (amd64 || arm64)

package probe

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/closetrace/closetrace/internal/kernel"
)

// exists tells whether the kernel has the place that a hook wants, so that a
// missing function is told from a refused program.
func exists(k *kernel.Kernel, mode Mode, h *hook) error {
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

// load puts the programs of a plan and the maps into the kernel.
func (p *Probe) load(k *kernel.Kernel, pl plan, o Options) error {
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("reading the BPF object: %w", err)
	}
	for name := range spec.Programs {
		if !pl.has(name) {
			delete(spec.Programs, name)
		}
	}
	size := o.BufferSize
	if size == 0 {
		size = DefaultBufferSize
	}
	spec.Maps[bpfMapRing].MaxEntries = uint32(size)
	if err := configure(spec, k, pl, o.Filter, size); err != nil {
		return err
	}
	p.names.resetReason = k.EnumNames("sk_rst_reason", "SK_RST_REASON_")
	delete(p.names.resetReason, 0) // NOT_SPECIFIED is no reason
	p.names.syscall = kernel.SyscallName
	p.names.stack = p.stack
	p.coll, err = ebpf.NewCollection(spec)
	if err != nil {
		return fmt.Errorf("loading: %w", brief(err))
	}
	return fillFilter(p.coll.Maps[bpfMapFilterValues], o.Filter)
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
func configure(spec *ebpf.CollectionSpec, k *kernel.Kernel, pl plan, f Filter, size int) error {
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
	settings := map[string]any{
		bpfVarResetReasonArg:   uint8(reasonArg),
		bpfVarTraceResetReason: flag(replyReason(k)),
		bpfVarHasTcpClose:      flag(pl.has("fentry_tcp_close") || pl.has("kprobe_tcp_close")),
		bpfVarHasInetShutdown:  flag(pl.has("fentry_inet_shutdown") || pl.has("kprobe_inet_shutdown")),
		bpfVarByTracepoints:    flag(pl.mode == Tracepoint),
		bpfVarWakeupBytes:      uint32(size / 4),
		bpfVarFilterNetns:      f.Netns,
		bpfVarFilterFamily:     family,
		bpfVarFilterPid:        flag(len(f.PIDs) > 0),
		bpfVarFilterPort:       flag(len(f.Ports) > 0),
		bpfVarFilterLocalPort:  flag(len(f.LocalPorts) > 0),
		bpfVarFilterRemotePort: flag(len(f.RemotePorts) > 0),
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

func fillFilter(m *ebpf.Map, f Filter) error {
	put := func(field bpfFilterField, value uint32) error {
		if err := m.Put(bpfFilterKey{Field: field, Value: value}, uint8(1)); err != nil {
			return fmt.Errorf("setting the filter: %w", err)
		}
		return nil
	}
	var errs []error
	for _, pid := range f.PIDs {
		errs = append(errs, put(bpfFilterFieldFILTER_PID, pid))
	}
	for field, ports := range map[bpfFilterField][]uint16{
		bpfFilterFieldFILTER_PORT:        f.Ports,
		bpfFilterFieldFILTER_LOCAL_PORT:  f.LocalPorts,
		bpfFilterFieldFILTER_REMOTE_PORT: f.RemotePorts,
	} {
		for _, port := range ports {
			errs = append(errs, put(field, uint32(port)))
		}
	}
	return errors.Join(errs...)
}

// attach puts the programs of one hook in place.
func (p *Probe) attach(h *hook) error {
	for _, prog := range h.programs {
		ln, err := p.link(h, prog)
		if err != nil {
			return fmt.Errorf("attaching %s: %w", prog.name, err)
		}
		p.links = append(p.links, ln)
	}
	return nil
}

func (p *Probe) link(h *hook, prog program) (link.Link, error) {
	loaded := p.coll.Programs[prog.name]
	switch prog.kind {
	case entry:
		return link.Kprobe(h.symbol, loaded, nil)
	case ret:
		return link.Kretprobe(h.symbol, loaded, nil)
	case rawPoint:
		_, name, _ := strings.Cut(h.symbol, ":")
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: name, Program: loaded})
	default:
		return link.AttachTracing(link.TracingOptions{Program: loaded})
	}
}
