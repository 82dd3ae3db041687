package probe

import (
	"log/slog"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
)

// Mode is a way to attach to kernel functions.
type Mode string

// The attach modes. Auto is the first of Fentry, Kprobe and Tracepoint that works on this kernel: from cheap to
// expensive.
const (
	Auto       Mode = "auto"
	Fentry     Mode = "fentry"
	Kprobe     Mode = "kprobe"
	Tracepoint Mode = events.AttachTracepoint
)

// Attachment says how to attach.
type Attachment struct {
	Attach Mode
	BTF    string // file with the type information of this kernel, for one that has none; or ""
}

// Options select what to attach and what to report.
type Options struct {
	Attachment
	Filter     Filter
	BufferSize int // of the ring buffer, bytes, a power of two; 0 is [DefaultBufferSize]
	// SharedCloses also reports close(2) on a shared descriptor. A program then runs for each close(2) of any file, in
	// tracepoint mode for each system call.
	SharedCloses bool
	// Quiet are the closes that are counted and noted in the kernel. Where they cannot be recognized, all are reported.
	Quiet Quiet
	// Stacks adds the user and kernel stack of each call.
	Stacks bool
	// RecordsOnly: of an event that needs no look-up, only [events.Event.Record] is needed, and what names, losses and
	// aliases need. The rest of it is not decoded.
	RecordsOnly bool
	// CloseWait is [events.Header.CloseWaitNS]. Only if it is 0, a FIN received in FIN_WAIT2, the orderly end, is
	// reported.
	CloseWait time.Duration
	Log       *slog.Logger // why a mode or a hook is not used; never nil
	Shared    *Shared      // reused by several calls of [Open]; may be nil
	Fault     Fault        // for tests
}

// Shared holds what takes most of the time and memory of attaching and can be reused: the types of the kernel and the
// BPF objects.
type Shared struct {
	types         *btf.Cache
	probed, plain func() (*ebpf.CollectionSpec, error) // the two variants of bpf/read.h
}

// NewShared returns an empty Shared. What it holds is read at its first use.
func NewShared() *Shared {
	return &Shared{btf.NewCache(), sync.OnceValues(loadBpf), sync.OnceValues(loadBpfPlain)}
}

// object returns the BPF object for this kernel: with plain loads if it has bpf_rdonly_cast (6.2), otherwise with
// helpers. A kernel without types of its own finds no function for a program.
func (s *Shared) object(k *kernel.Kernel) (*ebpf.CollectionSpec, error) {
	if k.FromFile() == nil && k.HasFunc("bpf_rdonly_cast") && kernel.HasJIT() {
		return s.plain()
	}
	return s.probed()
}

// share sets Shared if it is nil.
func (o *Options) share() {
	if o.Shared == nil {
		o.Shared = NewShared()
	}
}

// Fault makes one hook fail, for tests.
type Fault struct {
	Hook string // its symbol; "" for none
	At   Stage
}

// Stage is when the hook fails.
type Stage uint8

// The stages.
const (
	AtLookup Stage = iota // the kernel does not have the function or tracepoint
	AtLoad                // the verifier rejects the program
	AtAttach              // attaching is refused
)

func (f Fault) hits(h *hook, at Stage) bool { return f.Hook == h.symbol && f.At == at }

// DefaultBufferSize is the default size of the ring buffer in bytes.
const DefaultBufferSize = 4 << 20
