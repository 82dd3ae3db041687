package probe

import (
	"slices"
	"strings"
	"unsafe"

	"github.com/closetrace/closetrace/internal/events"
)

const stackRecordSize = int(unsafe.Sizeof(bpfCallStack{}))

// pending has what arrived before its event. It drops the oldest first.
type pending[K comparable, V any] struct {
	byKey map[K]V
	order []K // ring, the oldest at next
	next  int
}

func newPending[K comparable, V any](limit int) pending[K, V] {
	return pending[K, V]{byKey: map[K]V{}, order: make([]K, limit)}
}

func (p *pending[K, V]) put(key K, value V) {
	delete(p.byKey, p.order[p.next]) // no effect if its event has arrived
	p.order[p.next] = key
	p.next = (p.next + 1) % len(p.order)
	p.byKey[key] = value
}

func (p *pending[K, V]) take(key K) (value V, found bool) {
	value, found = p.byKey[key]
	delete(p.byKey, key)
	return value, found
}

// maxKernelStacks bounds the number of stacks that wait for their event, which follows at once unless it was lost.
const maxKernelStacks = 1024

// kernelStacks holds the stacks of events outside of calls whose event has not arrived.
type kernelStacks struct {
	pending[uint32, [kernelFrames]uint64]
}

const (
	kernelFrames          = len(bpfKernelStack{}.Frames)
	kernelStackRecordSize = int(unsafe.Sizeof(bpfKernelStack{}))
)

func newKernelStacks() kernelStacks {
	return kernelStacks{newPending[uint32, [kernelFrames]uint64](maxKernelStacks)}
}

// keep stores a record of the ring buffer if it is a struct kernel_stack of bpf/event.h, and reports whether it is.
func (s *kernelStacks) keep(raw []byte) bool {
	if len(raw) != kernelStackRecordSize {
		return false
	}
	var w bpfKernelStack
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&w)), kernelStackRecordSize), raw) // as in decode
	s.put(uint32(w.Id), w.Frames)
	return true
}

// maxStacks bounds the number of stacks that wait for their event, which follows when the call returns: about 4 MB.
const maxStacks = 4096

// stackKey identifies a stack and its event.
type stackKey struct{ sock, monoNS uint64 }

// stacks holds the stacks of calls whose event has not arrived.
type stacks struct {
	pending[stackKey, *events.CallStack]
	names func(addresses []uint64) []string // of the kernel
}

func newStacks(names func([]uint64) []string) *stacks {
	return &stacks{newPending[stackKey, *events.CallStack](maxStacks), names}
}

// keep stores a record of the ring buffer if it is a struct call_stack of bpf/event.h, and reports whether it is.
func (s *stacks) keep(raw []byte) bool {
	if len(raw) != stackRecordSize {
		return false
	}
	var w bpfCallStack
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&w)), stackRecordSize), raw) // as in decode
	s.put(stackKey{w.Sock, w.TimeNs}, &events.CallStack{
		Kernel: withoutTracing(s.names(w.Kernel[:])), Addresses: upToZero(w.User[:]), StartStack: w.StartStack,
	})
	return true
}

// set sets the stack of an event.
func (s *stacks) set(ev *events.Event) {
	ev.CallStack, _ = s.take(stackKey{ev.Sock, ev.MonoNS})
}

// tracingFrames are prefixes of the functions at the top of a kernel stack that belong to tracing.
var tracingFrames = []string{"bpf_prog_", "bpf_trampoline_", "bpf_trace_run", "__bpf_trace_", "__traceiter_"}

// withoutTracing returns the stack without those functions.
func withoutTracing(stack []string) []string {
	is := func(name string) bool {
		return slices.ContainsFunc(tracingFrames, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	}
	for len(stack) > 0 && is(stack[0]) {
		stack = stack[1:]
	}
	return stack
}

func upToZero(addresses []uint64) []uint64 {
	for i, address := range addresses {
		if address == 0 {
			return append([]uint64(nil), addresses[:i]...)
		}
	}
	return append([]uint64(nil), addresses...)
}
