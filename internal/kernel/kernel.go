// Package kernel reads facts about the running kernel: its release, the functions, tracepoints and enums in its BTF,
// its tick, its clocks, and the privileges of this process. It attaches nothing.
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

	"github.com/closetrace/closetrace/internal/hint"
)

// Kernel describes the running kernel.
type Kernel struct {
	Release string // as uname -r
	btf     *btf.Spec
	foreign bool // btf is that of a file
}

// Running reads the BTF of the running kernel, unless types already contains it; types may be nil. If the kernel has
// none, it takes that of a file; "" is no file. Errors are of kind [hint.Unsupported] without BTF, of kind
// [hint.Privilege] without the right to read it, and of kind [hint.Usage] if a file has that of another kernel.
func Running(types *btf.Cache, file string) (*Kernel, error) {
	if types == nil {
		types = btf.NewCache()
	}
	k := &Kernel{Release: Release()}
	var err error
	k.btf, err = types.Kernel()
	if file != "" {
		given, failed := readTypes(file)
		if failed != nil {
			return nil, failed
		}
		if err != nil {
			k.btf, k.foreign, err = given, true, nil
		}
	}
	switch {
	case err == nil:
		return k, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, &hint.Error{
			Kind: hint.Privilege,
			What: fmt.Sprintf("reading the type information of kernel %s: %v", k.Release, err),
			Hint: "run as root: sudo closetrace",
		}
	default:
		return nil, &hint.Error{
			Kind: hint.Unsupported,
			What: fmt.Sprintf("kernel %s has no usable type information (BTF): %v", k.Release, err),
			Hint: "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y " +
				"(Debian 11, Ubuntu 20.10, RHEL 8.2 and later have it), or use --btf; /sys must be mounted",
		}
	}
}

// FromFile returns the BTF if it is that of a file, and nil if it is the kernel's own.
func (k *Kernel) FromFile() *btf.Spec {
	if !k.foreign {
		return nil
	}
	return k.btf
}

// Host returns the name of this host, and the id of its boot; what cannot be read is empty.
func Host() (name, boot string) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		name = unix.ByteSliceToString(u.Nodename[:])
	}
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return name, strings.TrimSpace(string(id))
}

// Release returns the release of the kernel, as uname -r.
func Release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// HasFunc reports whether BTF has a function with this name: it exists and is not inlined everywhere.
func (k *Kernel) HasFunc(name string) bool {
	var fn *btf.Func
	return k.btf.TypeByName(name, &fn) == nil
}

// HasModule reports whether a kernel module is loaded.
func HasModule(name string) bool {
	_, err := os.Stat("/sys/module/" + name)
	return err == nil
}

// HasModuleBTF reports whether the kernel has the types of a module that is loaded (5.11).
func HasModuleBTF(name string) bool {
	_, err := os.Stat("/sys/kernel/btf/" + name)
	return err == nil
}

// HasJIT reports whether the kernel compiles BPF programs, which they need to call kernel functions. Few kernels can
// run without. Only root may read it: for others HasJIT returns true.
func HasJIT() bool {
	text, err := os.ReadFile("/proc/sys/net/core/bpf_jit_enable")
	return err != nil || strings.TrimSpace(string(text)) != "0"
}

// HasTracepoint reports whether the kernel has a tracepoint with this name, without its subsystem: tcp_send_reset.
func (k *Kernel) HasTracepoint(name string) bool {
	_, ok := k.tracepoint(name)
	return ok
}

// TracepointsPreemptible reports whether a tracepoint runs its programs with preemption enabled: from 7.0 on,
// protected by tracepoint_srcu. Up to 6.12 tracepoint_srcu was for tracepoints on idle CPUs, and srcu_free_old_probes
// existed.
func (k *Kernel) TracepointsPreemptible() bool {
	var guard *btf.Var
	return k.btf.TypeByName("tracepoint_srcu_srcu_data", &guard) == nil && !k.HasFunc("srcu_free_old_probes")
}

// FuncParam returns the position, from 1, of a function's first parameter with this enum type, or 0.
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

// FuncParams returns how many parameters a function has, 0 if BTF does not have it.
func (k *Kernel) FuncParams(function string) int {
	var fn *btf.Func
	if k.btf.TypeByName(function, &fn) != nil {
		return 0
	}
	proto, ok := fn.Type.(*btf.FuncProto)
	if !ok {
		return 0
	}
	return len(proto.Params)
}

// TracepointParam is [Kernel.FuncParam] for the arguments of a raw tracepoint, of which BTF has types but no names.
func (k *Kernel) TracepointParam(name, enum string) int {
	proto, ok := k.tracepoint(name)
	if !ok {
		return 0
	}
	return max(0, paramIndex(proto, enum)-1) // the first is void *__data of the kernel
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

// EnumNames returns the names of an enum's values without their common prefix, or nil if there is no such enum. The
// numbers change between kernels, the names do not.
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

// HZ returns the number of jiffies per second. CLOCK_MONOTONIC_COARSE advances once per jiffy, so its resolution is the
// length of one.
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

// MonoNow returns CLOCK_MONOTONIC in nanoseconds, the clock of events.
func MonoNow() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return uint64(t.Nano())
}

// WallOffset returns the difference in nanoseconds between the Unix time and CLOCK_MONOTONIC: the most precise of three
// readings.
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
