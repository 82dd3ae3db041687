//go:build linux && (amd64 || arm64)

package probe

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/rawevent"
	"github.com/closetrace/closetrace/internal/sockets"
)

// Iterators list the sockets of this machine and their holders, by BPF iterators. Their programs run only while they
// are read, except the one that traces changes of state.
type Iterators struct {
	tcp, files *link.Iter
	changes    link.Link     // nil: changes of state are not traced
	jiffy      time.Duration // length of one
}

// iteratorPrograms are loaded always.
type iteratorPrograms struct {
	TCP      *ebpf.Program `ebpf:"iterate_tcp"`       // 5.9
	TaskFile *ebpf.Program `ebpf:"iterate_task_file"` // 5.8
}

// tracingPrograms are loaded if changes of state are traced.
type tracingPrograms struct {
	iteratorPrograms
	Change *ebpf.Program `ebpf:"trace_state_change"` // 5.11
}

// OpenIterators loads and attaches the iterators. With trace, it also traces changes of state from now on, so that
// their time is known (5.11). If the kernel cannot do that, it logs a warning and does the rest.
func OpenIterators(trace bool, log *slog.Logger) (*Iterators, error) {
	o := Options{Log: log}
	o.share()
	k, err := ready(o)
	if err != nil {
		return nil, err
	}
	it := &Iterators{}
	hz, err := kernel.HZ()
	if err != nil {
		return nil, err
	}
	it.jiffy = time.Second / time.Duration(hz)
	err = it.load(k, o.Shared, trace)
	if untraced := err; trace && err != nil {
		if err = it.load(k, o.Shared, false); err == nil {
			log.Warn("no change of state is traced: ages are lower bounds", "because", untraced)
		}
	}
	if scarce := kernel.Scarce(err); scarce != nil {
		return nil, scarce
	}
	if err != nil {
		return nil, &hint.Error{
			Kind: hint.Unsupported,
			What: fmt.Sprintf("kernel %s has no BPF iterators over TCP sockets: %v", k.Release, err),
			Hint: "leave out --source: closetrace then asks sock_diag",
		}
	}
	return it, nil
}

func (it *Iterators) load(k *kernel.Kernel, shared *Shared, trace bool) error {
	object, err := shared.object(k)
	if err != nil {
		return fmt.Errorf("reading the BPF object: %w", err)
	}
	spec := object.Copy()
	if err := spec.Variables[bpfVarWantSince].Set(flag(trace)); err != nil {
		return err
	}
	var programs tracingPrograms
	var wanted any = &programs.iteratorPrograms
	if trace {
		wanted = &programs
	} else {
		spec.Maps[bpfMapSinceSmall].MaxEntries = 1 // never filled
	}
	err = spec.LoadAndAssign(wanted, &ebpf.CollectionOptions{Cache: shared.types})
	if err != nil {
		return fmt.Errorf("loading: %w", brief(err))
	}
	defer programs.TCP.Close()
	defer programs.TaskFile.Close()
	defer programs.Change.Close()
	if err := it.attach(programs); err != nil {
		return errors.Join(err, it.Close())
	}
	return nil
}

// attach attaches the programs, the one that traces changes of state first.
func (it *Iterators) attach(programs tracingPrograms) (err error) {
	if programs.Change != nil {
		if it.changes, err = link.AttachTracing(link.TracingOptions{Program: programs.Change}); err != nil {
			return err
		}
	}
	if it.tcp, err = link.AttachIter(link.IterOptions{Program: programs.TCP}); err != nil {
		return err
	}
	it.files, err = link.AttachIter(link.IterOptions{Program: programs.TaskFile})
	return err
}

// Traces reports whether changes of state are traced.
func (it *Iterators) Traces() bool { return it.changes != nil }

// Close detaches and frees the programs.
func (it *Iterators) Close() error {
	var errs []error
	if it.changes != nil {
		errs = append(errs, it.changes.Close())
	}
	if it.tcp != nil {
		errs = append(errs, it.tcp.Close())
	}
	if it.files != nil {
		errs = append(errs, it.files.Close())
	}
	*it = Iterators{jiffy: it.jiffy}
	return errors.Join(errs...)
}

// AppendSockets adds the sockets of the calling thread's network namespace that listen or that do not close: those in
// CLOSE_WAIT, FIN_WAIT1, FIN_WAIT2, CLOSING and LAST_ACK.
func (it *Iterators) AppendSockets(to *sockets.List) error {
	// A kernel may show a socket twice if others of its hash bucket were closed meanwhile.
	seen := sockets.NewSeen()
	return eachRecord(it.tcp, func(r *bpfStuckSocket) {
		s := it.socket(r)
		to.AddOnce(&s, seen)
	})
}

func (it *Iterators) socket(r *bpfStuckSocket) sockets.Socket {
	jiffies := func(n uint32) time.Duration { return time.Duration(n) * it.jiffy }
	return sockets.Socket{
		Netns:        r.Netns,
		Local:        onTheWire(rawevent.Address(uint8(r.Family), &r.Local, r.LocalPort)),
		Remote:       onTheWire(rawevent.Address(uint8(r.Family), &r.Remote, r.RemotePort)),
		State:        events.State(r.State),
		Inode:        r.Inode,
		UID:          r.Uid,
		ReceiveQueue: r.ReceiveQueue, SendQueue: r.SendQueue, NotSent: r.NotSent,
		LastHeard: jiffies(r.HeardJiffies), InState: time.Duration(r.AgeNs),
		RTO: jiffies(r.RtoJiffies), Backoff: r.Backoff, Retries: r.Retransmits, WindowClosed: r.WindowClosed != 0,
		Mini: r.Small != 0, TimeLeft: time.Duration(max(int64(r.Expires), 0)) * it.jiffy,
	}
}

// onTheWire turns a v4-mapped address into IPv4.
func onTheWire(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Holders returns the processes of this pid namespace that hold the sockets with these inodes.
func (it *Iterators) Holders(wanted sockets.Inodes) (*sockets.Holders, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return nil, err
	}
	// If the first thread of a process has ended, the kernel shows each of the others, which share a descriptor table.
	type table struct {
		files uint64
		pid   uint32
	}
	numbers := map[table]int{}
	found := &sockets.Holders{}
	err := eachRecord(it.files, func(r *bpfStuckHolder) {
		if !wanted.Has(r.Inode) {
			return
		}
		of := table{r.Table, r.Pid}
		number, known := numbers[of]
		if !known {
			number = found.Add(holder(r, time.Duration(now.Nano())))
			numbers[of] = number
		}
		found.Hold(number, r.Inode, int(r.Fd))
	})
	return found, err
}

// holder returns who has a descriptor.
func holder(r *bpfStuckHolder, now time.Duration) sockets.Holder {
	tid := r.Tid
	if tid == r.Pid {
		tid = 0
	}
	return sockets.Holder{
		PID: r.Pid, TID: tid, Comm: rawevent.Comm(r.Comm), UID: r.Uid,
		Parent: r.Parent, Age: max(now-time.Duration(r.Began), 0),
	}
}

// eachRecord reads all records of an iterator.
func eachRecord[T any](it *link.Iter, do func(*T)) error {
	from, err := it.Open()
	if err != nil {
		return err
	}
	defer from.Close()
	var record T
	// The twins that bpf2go generates have the layout of the C structs and hold no pointers.
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&record)), unsafe.Sizeof(record))
	for buffered := bufio.NewReaderSize(retryingReader{from}, 1<<16); ; {
		switch _, err := io.ReadFull(buffered, raw); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading a BPF iterator: %w", err)
		}
		do(&record)
	}
}

// retryingReader reads again after EAGAIN, which the kernel returns after a million objects of which it wrote no record
// (bpf_seq_read).
type retryingReader struct{ io.Reader }

func (r retryingReader) Read(p []byte) (int, error) {
	for {
		n, err := r.Reader.Read(p)
		if n > 0 || !errors.Is(err, unix.EAGAIN) {
			return n, err
		}
	}
}
