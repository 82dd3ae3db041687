package probe

import (
	"slices"
	"strings"
	"unsafe"

	"github.com/closetrace/closetrace/internal/events"
)

const stackRecordSize = int(unsafe.Sizeof(bpfCallStack{}))

// maxStacks bounds what waits for its event, which comes when the call returns:
// about 4 MB.
const maxStacks = 4096

// stackKey is what a stack and its event have in common.
type stackKey struct{ sock, monoNS uint64 }

// stacks are those of calls whose event is still to come. The oldest is forgotten
// first.
type stacks struct {
	names func(addresses []uint64) []string // of the kernel
	of    map[stackKey]*events.CallStack
	order []stackKey // a ring
	next  int
}

func newStacks(names func([]uint64) []string) *stacks {
	return &stacks{names: names, of: map[stackKey]*events.CallStack{}, order: make([]stackKey, maxStacks)}
}

// keep takes a record of the ring buffer if it is a struct call_stack of
// bpf/event.h.
func (s *stacks) keep(raw []byte) bool {
	if len(raw) != stackRecordSize {
		return false
	}
	var w bpfCallStack
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&w)), stackRecordSize), raw) // as in decode
	key := stackKey{w.Sock, w.TimeNs}
	delete(s.of, s.order[s.next]) // nothing, if its event has come
	s.order[s.next] = key
	s.next = (s.next + 1) % maxStacks
	s.of[key] = &events.CallStack{
		Kernel: withoutTracing(s.names(w.Kernel[:])), Addresses: upToZero(w.User[:]), StartStack: w.StartStack,
	}
	return true
}

// take completes an event.
func (s *stacks) take(ev *events.Event) {
	key := stackKey{ev.Sock, ev.MonoNS}
	ev.CallStack = s.of[key]
	delete(s.of, key)
}

// tracingFrames are what stands on top of a kernel stack because it is traced.
var tracingFrames = []string{"bpf_prog_", "bpf_trampoline_", "bpf_trace_run", "__bpf_trace_", "__traceiter_"}

// withoutTracing leaves that out.
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
