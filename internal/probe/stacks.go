package probe

import (
	"slices"
	"strings"
	"unsafe"

	"github.com/closetrace/closetrace/internal/events"
)

const stackRecordSize = int(unsafe.Sizeof(bpfCallStack{}))

// maxStacks bounds the number of stacks that wait for their event, which follows when the call returns: about 4 MB.
const maxStacks = 4096

// stackKey identifies a stack and its event.
type stackKey struct{ sock, monoNS uint64 }

// stacks holds the stacks of calls whose event has not arrived. It drops the oldest first.
type stacks struct {
	names func(addresses []uint64) []string // of the kernel
	byKey map[stackKey]*events.CallStack
	order []stackKey // ring, the oldest at next
	next  int
}

func newStacks(names func([]uint64) []string) *stacks {
	return &stacks{names: names, byKey: map[stackKey]*events.CallStack{}, order: make([]stackKey, maxStacks)}
}

// keep stores a record of the ring buffer if it is a struct call_stack of bpf/event.h, and reports whether it is.
func (s *stacks) keep(raw []byte) bool {
	if len(raw) != stackRecordSize {
		return false
	}
	var w bpfCallStack
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&w)), stackRecordSize), raw) // as in decode
	key := stackKey{w.Sock, w.TimeNs}
	delete(s.byKey, s.order[s.next]) // no effect if its event has arrived
	s.order[s.next] = key
	s.next = (s.next + 1) % maxStacks
	s.byKey[key] = &events.CallStack{
		Kernel: withoutTracing(s.names(w.Kernel[:])), Addresses: upToZero(w.User[:]), StartStack: w.StartStack,
	}
	return true
}

// take sets the stack of an event.
func (s *stacks) take(ev *events.Event) {
	key := stackKey{ev.Sock, ev.MonoNS}
	ev.CallStack = s.byKey[key]
	delete(s.byKey, key)
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
