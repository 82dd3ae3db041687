// Package kernel gathers facts about the running kernel: its release, what its
// BTF says of functions, tracepoints and enums, its tick, its clocks, and what
// this process may do. It attaches nothing and knows nothing of TCP endings.
package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Kernel is the running kernel, described by itself.
type Kernel struct {
	Release string // as uname -r
	btf     *btf.Spec
}

// Running reads the BTF of the running kernel, unless types has it already, which may be nil. Without BTF it returns an
// [Error] of kind [ErrUnsupported], without the right to read it one of kind
// [ErrPrivilege].
func Running(types *btf.Cache) (*Kernel, error) {
	if types == nil {
		types = btf.NewCache()
	}
	k := &Kernel{Release: Release()}
	var err error
	k.btf, err = types.Kernel()
	switch {
	case err == nil:
		return k, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, &Error{
			Kind: ErrPrivilege,
			What: fmt.Sprintf("reading the type information of kernel %s: %v", k.Release, err),
			Next: "run as root: sudo closetrace",
		}
	default:
		return nil, &Error{
			Kind: ErrUnsupported,
			What: fmt.Sprintf("kernel %s has no usable type information (BTF): %v", k.Release, err),
			Next: "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (Debian 11, Ubuntu 20.10, RHEL 8.2 and later have it); /sys must be mounted",
		}
	}
}

// Release is the kernel's release, as uname -r.
func Release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// HasFunc tells whether the kernel has a function of that name that was not
// inlined away, as far as BTF knows.
func (k *Kernel) HasFunc(name string) bool {
	var fn *btf.Func
	return k.btf.TypeByName(name, &fn) == nil
}

// HasJIT tells whether BPF programs are compiled, without which they cannot call
// functions of the kernel. Few kernels allow to do without, and only root may
// ask.
func HasJIT() bool {
	text, err := os.ReadFile("/proc/sys/net/core/bpf_jit_enable")
	return err != nil || strings.TrimSpace(string(text)) != "0"
}

// HasTracepoint tells whether the kernel has a tracepoint of that name, given
// without its subsystem: tcp_send_reset.
func (k *Kernel) HasTracepoint(name string) bool {
	_, ok := k.tracepoint(name)
	return ok
}

// TracepointsPreemptible tells whether a tracepoint runs its programs with
// preemption on. From 7.0 on it does, guarded by tracepoint_srcu; up to 6.12 that
// was for tracepoints in idle CPUs, and freed by a function of its own.
func (k *Kernel) TracepointsPreemptible() bool {
	var guard *btf.Var
	return k.btf.TypeByName("tracepoint_srcu_srcu_data", &guard) == nil && !k.HasFunc("srcu_free_old_probes")
}

// FuncParam returns the position, from 1, of a function's first parameter of an
// enum type, or 0 if it has none.
func (k *Kernel) FuncParam(function, enum string) int {
	var fn *btf.Func
	if k.btf.TypeByName(function, &fn) != nil {
		return 0
	}
	proto, ok := fn.Type.(*btf.FuncProto)
	if !ok {
		return 0
	}
	return paramIndex(proto, enum)
}

// TracepointParam is like [Kernel.FuncParam] for the arguments of a raw
// tracepoint, of which BTF tells types, but no names.
func (k *Kernel) TracepointParam(name, enum string) int {
	proto, ok := k.tracepoint(name)
	if !ok {
		return 0
	}
	return max(0, paramIndex(proto, enum)-1) // the first is the kernel's own void *__data
}

func (k *Kernel) tracepoint(name string) (*btf.FuncProto, bool) {
	var def *btf.Typedef
	if k.btf.TypeByName("btf_trace_"+name, &def) != nil {
		return nil, false
	}
	ptr, ok := def.Type.(*btf.Pointer)
	if !ok {
		return nil, false
	}
	proto, ok := ptr.Target.(*btf.FuncProto)
	return proto, ok
}

func paramIndex(proto *btf.FuncProto, enum string) int {
	for i, p := range proto.Params {
		if e, ok := btf.UnderlyingType(p.Type).(*btf.Enum); ok && e.Name == enum {
			return i + 1
		}
	}
	return 0
}

// EnumNames returns the names of an enum's values without their common prefix.
// The numbers change between kernels, the names do not. Nil if there is no such
// enum.
func (k *Kernel) EnumNames(enum, prefix string) map[uint32]string {
	var e *btf.Enum
	if k.btf.TypeByName(enum, &e) != nil {
		return nil
	}
	names := make(map[uint32]string, len(e.Values))
	for _, v := range e.Values {
		names[uint32(v.Value)] = strings.TrimPrefix(v.Name, prefix)
	}
	return names
}

// HZ is the number of jiffies per second. CLOCK_MONOTONIC_COARSE advances once
// a jiffy, so its resolution is the length of one: no config file is needed.
func HZ() (uint64, error) {
	var res unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &res); err != nil {
		return 0, fmt.Errorf("reading the length of a jiffy: %w", err)
	}
	if res.Nano() <= 0 {
		return 0, fmt.Errorf("length of a jiffy is %d ns", res.Nano())
	}
	return uint64(time.Second) / uint64(res.Nano()), nil
}

// MonoNow is CLOCK_MONOTONIC in nanoseconds, the clock of every event.
func MonoNow() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return uint64(t.Nano())
}

// WallOffset is what added to CLOCK_MONOTONIC gives nanoseconds since the Unix
// epoch. It is read three times and the tightest reading taken.
func WallOffset() int64 {
	var best, offset int64
	for i := range 3 {
		before := int64(MonoNow())
		wall := time.Now().UnixNano()
		after := int64(MonoNow())
		if i == 0 || after-before < best {
			best, offset = after-before, wall-(before+(after-before)/2)
		}
	}
	return offset
}
