package probe

import (
	"log/slog"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/closetrace/closetrace/internal/kernel"
)

// Mode is a way to attach to the kernel's functions.
type Mode string

// The attach modes. Auto takes the first of Fentry, Kprobe and Tracepoint that
// works on this kernel, which is also their order from cheap to dear.
const (
	Auto       Mode = "auto"
	Fentry     Mode = "fentry"
	Kprobe     Mode = "kprobe"
	Tracepoint Mode = "tracepoint"
)

// Filter is decided in the kernel, before a record is made. An empty list or a
// zero does not restrict; within a list any match suffices, between the fields
// all must hold.
type Filter struct {
	PIDs        []uint32 // thread group ids as in the initial pid namespace
	Ports       []uint16 // local or remote
	LocalPorts  []uint16
	RemotePorts []uint16
	IPv4, IPv6  bool   // by what is on the wire: v4-mapped counts as IPv4
	Netns       uint32 // inode of a network namespace
	// Cgroups by id: the socket was made in one of these or below, or the task
	// whose call it is runs there.
	Cgroups []uint64
}

// Options say what to attach and what to report.
type Options struct {
	Attach     Mode
	Filter     Filter
	BufferSize int // of the ring buffer, bytes, a power of two; 0 is [DefaultBufferSize]
	// SharedCloses: also report a close(2) that closes nothing, because the
	// socket has other references. Costs a program per close(2) of any file, in
	// tracepoint mode per system call.
	SharedCloses bool
	// Stacks: also where a task's call came from.
	Stacks bool
	// CloseWait is [events.Header.CloseWaitNS]. Unless it is 0, a FIN received in
	// FIN_WAIT2, which is the orderly end, is not reported.
	CloseWait time.Duration
	Log       *slog.Logger // why a mode or a hook was not taken; never nil
	Shared    *Shared      // between calls of [Open]; may be nil
	Fault     Fault        // for tests
}

// Shared is what takes most of the time and memory of attaching, and needs to be
// read once: the kernel's types, and what bpf/ was compiled to.
type Shared struct {
	types         *btf.Cache
	probed, plain func() (*ebpf.CollectionSpec, error) // the two ways of bpf/read.h
}

// NewShared reads nothing yet.
func NewShared() *Shared {
	return &Shared{btf.NewCache(), sync.OnceValues(loadBpf), sync.OnceValues(loadBpfPlain)}
}

// object is what bpf/ was compiled to for this kernel: programs may read by
// bpf_rdonly_cast (6.2), or not.
func (s *Shared) object(k *kernel.Kernel) (*ebpf.CollectionSpec, error) {
	if k.HasFunc("bpf_rdonly_cast") && kernel.HasJIT() {
		return s.plain()
	}
	return s.probed()
}

// share has these read once.
func (o *Options) share() {
	if o.Shared == nil {
		o.Shared = NewShared()
	}
}

// Fault is a kernel that refuses one hook.
type Fault struct {
	Hook string // its symbol; "" for none
	At   Stage
}

// Stage is when a kernel refuses a hook.
type Stage uint8

// The stages.
const (
	AtLookup Stage = iota // there is no such function or tracepoint
	AtLoad                // the verifier says no
	AtAttach              // nothing may be put there
)

func (f Fault) hits(h *hook, at Stage) bool { return f.Hook == h.symbol && f.At == at }

// DefaultBufferSize of the ring buffer in bytes.
const DefaultBufferSize = 4 << 20

// Losses is what happened and was not reported, since the start.
type Losses struct {
	LostRecords  uint64 // the ring buffer was full
	MissedProbes uint64 // a program did not run, or a call's return was never seen
	Suppressed   uint64 // RSTs in reply beyond the rate that is reported one by one
}

// Add returns the sum of both.
func (l Losses) Add(m Losses) Losses {
	return Losses{l.LostRecords + m.LostRecords, l.MissedProbes + m.MissedProbes, l.Suppressed + m.Suppressed}
}
