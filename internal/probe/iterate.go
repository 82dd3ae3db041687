//go:build linux && (amd64 || arm64)

package probe

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/stuck"
)

// Iterators tell of the sockets that there are now, and of who holds them. Nothing
// of them runs but while they are read.
type Iterators struct {
	sockets, files *link.Iter
	changes        link.Link     // nil: changes of state are not traced
	tick           time.Duration // a jiffy
}

// iteratorPrograms are the only ones that are loaded.
type iteratorPrograms struct {
	TCP      *ebpf.Program `ebpf:"iterate_tcp"`       // 5.9
	TaskFile *ebpf.Program `ebpf:"iterate_task_file"` // 5.8
}

// tracingPrograms are loaded where changes of state are traced.
type tracingPrograms struct {
	iteratorPrograms
	Change *ebpf.Program `ebpf:"trace_state_change"` // 5.11
}

// OpenIterators loads them. With trace, changes of state are traced from now on,
// and their time is known; where that cannot be, it is said, and the rest is done.
// Where the kernel has no iterators, or this process no right to them, the error is
// a [kernel.Error].
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
	it.tick = time.Second / time.Duration(hz)
	err = it.load(k, o.Shared, trace)
	if untraced := err; trace && err != nil {
		if err = it.load(k, o.Shared, false); err == nil {
			log.Warn("no change of state is traced: every age is the least that is certain", "because", untraced)
		}
	}
	if err != nil {
		return nil, &kernel.Error{
			Kind: kernel.ErrUnsupported,
			What: fmt.Sprintf("kernel %s has no BPF iterators over TCP sockets: %v", k.Release, err),
			Next: "leave out --source: sock_diag then tells of them",
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
		spec.Maps[bpfMapSinceSmall].MaxEntries = 1 // which nobody fills
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

// attach puts the programs in place; first the one that traces.
func (it *Iterators) attach(programs tracingPrograms) (err error) {
	if programs.Change != nil {
		if it.changes, err = link.AttachTracing(link.TracingOptions{Program: programs.Change}); err != nil {
			return err
		}
	}
	if it.sockets, err = link.AttachIter(link.IterOptions{Program: programs.TCP}); err != nil {
		return err
	}
	it.files, err = link.AttachIter(link.IterOptions{Program: programs.TaskFile})
	return err
}

// Traces tells whether changes of state are traced.
func (it *Iterators) Traces() bool { return it.changes != nil }

// Close frees them.
func (it *Iterators) Close() error {
	var errs []error
	if it.changes != nil {
		errs = append(errs, it.changes.Close())
	}
	if it.sockets != nil {
		errs = append(errs, it.sockets.Close())
	}
	if it.files != nil {
		errs = append(errs, it.files.Close())
	}
	*it = Iterators{tick: it.tick}
	return errors.Join(errs...)
}

// Sockets are those of the calling thread's network namespace that listen or wait
// for their end.
func (it *Iterators) Sockets() ([]stuck.Socket, error) {
	// A kernel may come by the same socket twice, if others of its bucket have gone meanwhile.
	type identity struct {
		inode                 uint64
		local, remote         [16]byte
		localPort, remotePort uint16
	}
	seen := map[identity]bool{}
	var all []stuck.Socket
	err := eachRecord(it.sockets, func(r *bpfStuckSocket) {
		if id := (identity{r.Inode, r.Local, r.Remote, r.LocalPort, r.RemotePort}); !seen[id] {
			seen[id] = true
			all = append(all, it.socket(r))
		}
	})
	return all, err
}

func (it *Iterators) socket(r *bpfStuckSocket) stuck.Socket {
	jiffies := func(n uint32) time.Duration { return time.Duration(n) * it.tick }
	return stuck.Socket{
		Netns:        r.Netns,
		Local:        onTheWire(address(r.Family, &r.Local, r.LocalPort)),
		Remote:       onTheWire(address(r.Family, &r.Remote, r.RemotePort)),
		State:        events.State(r.State),
		Inode:        r.Inode,
		UID:          r.Uid,
		ReceiveQueue: r.ReceiveQueue, SendQueue: r.SendQueue, NotSent: r.NotSent,
		LastHeard: jiffies(r.HeardJiffies), InState: time.Duration(r.AgeNs),
		RTO: jiffies(r.RtoJiffies), Backoff: r.Backoff, Retries: r.Retransmits,
		Mini: r.Small != 0, TimeLeft: time.Duration(max(int64(r.Expires), 0)) * it.tick,
	}
}

// onTheWire shows an IPv4 address as one.
func onTheWire(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Holders are the processes of this pid namespace that hold one of the sockets,
// which are given by their inodes. Of each, the process with the lowest id comes
// first.
func (it *Iterators) Holders(wanted map[uint64]bool) (map[uint64][]stuck.Holder, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return nil, err
	}
	// Threads that share a table are shown one by one if the first thread has ended.
	type slot struct {
		table uint64
		pid   uint32
		fd    uint32
	}
	seen := map[slot]bool{}
	found := map[uint64][]stuck.Holder{}
	err := eachRecord(it.files, func(r *bpfStuckHolder) {
		at := slot{r.Table, r.Pid, r.Fd}
		if !wanted[r.Inode] || seen[at] {
			return
		}
		seen[at] = true
		found[r.Inode] = addHolder(found[r.Inode], r, time.Duration(now.Nano()))
	})
	for _, holders := range found {
		slices.SortStableFunc(holders, func(a, b stuck.Holder) int {
			return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.TID, b.TID))
		})
	}
	return found, err
}

// addHolder adds a descriptor; those of one table follow each other.
func addHolder(holders []stuck.Holder, r *bpfStuckHolder, now time.Duration) []stuck.Holder {
	tid := r.Tid
	if tid == r.Pid {
		tid = 0
	}
	if n := len(holders); n > 0 && holders[n-1].PID == r.Pid && holders[n-1].TID == tid {
		holders[n-1].FDs = append(holders[n-1].FDs, int(r.Fd))
		return holders
	}
	return append(holders, stuck.Holder{
		PID: r.Pid, TID: tid, Comm: comm(r.Comm), UID: r.Uid, FDs: []int{int(r.Fd)},
		Parent: r.Parent, Age: max(now-time.Duration(r.Began), 0),
	})
}

// eachRecord goes through all that an iterator writes.
func eachRecord[T any](it *link.Iter, do func(*T)) error {
	from, err := it.Open()
	if err != nil {
		return err
	}
	defer from.Close()
	var record T
	// The twins that bpf2go generates have the layout of the C structs and hold no pointers.
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&record)), unsafe.Sizeof(record))
	for buffered := bufio.NewReaderSize(patientReader{from}, 1<<16); ; {
		switch _, err := io.ReadFull(buffered, raw); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading a BPF iterator: %w", err)
		}
		do(&record)
	}
}

// patientReader goes on where the kernel pauses: after a million objects of which
// there was nothing to tell.
type patientReader struct{ io.Reader }

func (r patientReader) Read(p []byte) (int, error) {
	for {
		n, err := r.Reader.Read(p)
		if n > 0 || !errors.Is(err, unix.EAGAIN) {
			return n, err
		}
	}
}
