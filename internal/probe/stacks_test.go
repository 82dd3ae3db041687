package probe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"unsafe"

	"github.com/closetrace/closetrace/internal/events"
)

func rawStack(t *testing.T, sock, monoNS uint64) []byte {
	t.Helper()
	w := bpfCallStack{TimeNs: monoNS, Sock: sock, StartStack: 9, User: [64]uint64{5, 6}, Kernel: [32]uint64{1, 2, 3}}
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, w); err != nil || b.Len() != stackRecordSize {
		t.Fatalf("%d bytes, %v", b.Len(), err)
	}
	return b.Bytes()
}

// A kernel stack is that of one event, whatever other stacks arrived before it, and of no second one.
func TestKernelStacks(t *testing.T) {
	s := newKernelStacks()
	if s.keep(make([]byte, unsafe.Sizeof(bpfEvent{}))) || s.keep(make([]byte, stackRecordSize)) || s.keep(nil) {
		t.Error("another record was taken for a kernel stack")
	}
	raw := func(id uint64, frame uint64) []byte {
		var b bytes.Buffer
		if err := binary.Write(&b, binary.NativeEndian, bpfKernelStack{Id: id, Frames: [32]uint64{frame}}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for n := range uint64(maxKernelStacks + 1) {
		if !s.keep(raw(n, n*10)) {
			t.Fatal("a stack was not taken")
		}
	}
	if _, found := s.take(0); found || len(s.byKey) != maxKernelStacks {
		t.Errorf("%d stacks are kept, the first: %v", len(s.byKey), found)
	}
	for _, id := range []uint32{1024, 1, 500} {
		if frames, found := s.take(id); !found || frames[0] != uint64(id)*10 {
			t.Errorf("%d: %v %v", id, found, frames)
		}
		if _, found := s.take(id); found {
			t.Errorf("%d was taken twice", id)
		}
	}
}

// A stack goes to the event of the same socket and time, once.
func TestStacksFindTheirEvents(t *testing.T) {
	names := func(addresses []uint64) (all []string) {
		for _, a := range addresses[:3] {
			all = append(all, []string{"", "bpf_prog_x", "tcp_close", "__fput"}[a])
		}
		return all
	}
	s := newStacks(names)
	if s.keep(make([]byte, unsafe.Sizeof(bpfEvent{}))) {
		t.Error("an event was taken for a stack")
	}
	if !s.keep(rawStack(t, 7, 100)) || !s.keep(rawStack(t, 7, 200)) {
		t.Fatal("a stack was not taken")
	}
	for _, tt := range []struct {
		ev    events.Event
		found bool
	}{
		{events.Event{Sock: 7, MonoNS: 200}, true}, {events.Event{Sock: 8, MonoNS: 100}, false},
		{events.Event{Sock: 7, MonoNS: 100}, true}, {events.Event{Sock: 7, MonoNS: 100}, false},
	} {
		ev := tt.ev
		s.set(&ev)
		if (ev.CallStack != nil) != tt.found {
			t.Fatalf("%+v: %+v", tt, ev.CallStack)
		}
		if c := ev.CallStack; c != nil &&
			(!slices.Equal(c.Addresses, []uint64{5, 6}) || fmt.Sprint(c.Kernel) != "[tcp_close __fput]" || c.StartStack != 9) {
			t.Errorf("%+v", c)
		}
	}
	for n := range uint64(10_000) {
		s.keep(rawStack(t, 1, n))
	}
	if len(s.byKey) != 4_096 {
		t.Errorf("%d stacks are kept, want 4,096", len(s.byKey))
	}
}
