//go:build linux

package sockets

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/netns"
)

// Source is a way to list sockets and their holders.
type Source struct {
	Name string // "iterator" or "sock_diag"
	// List adds the sockets of the calling thread's network namespace, whose inode number is given. It returns
	// whole = false if some may be missing because they changed meanwhile.
	List func(to *List, netns uint32) (whole bool, err error)
	// Holders returns the processes that hold the sockets with these inodes, and how many processes it may not inspect.
	Holders func(inodes Inodes) (found *Holders, hidden int, err error)
	// Processes returns what processes show of themselves, by their ids. It may be nil.
	Processes func(pids map[uint32]bool) map[uint32]*Process
	// KeptByExec reports whether a descriptor is known to stay open when its process executes another program. tid is
	// as in [Holder]. It may be nil.
	KeptByExec func(pid, tid uint32, fd int) bool

	Close func() error
}

// The names of sources.
const (
	Iterator = "iterator"
	SockDiag = "sock_diag"
)

// NewSockDiag returns the source that asks sock_diag(7) for sockets.
func NewSockDiag(holders func(inodes Inodes) (*Holders, int)) *Source {
	return &Source{
		Name: SockDiag,
		List: AppendSockDiag,
		Holders: func(inodes Inodes) (*Holders, int, error) {
			found, hidden := holders(inodes)
			return found, hidden, nil
		},
		Close: func() error { return nil },
	}
}

// Request says which sockets to look at.
type Request struct {
	// Namespaces are the paths of network namespaces by inode number; "" is this process's own.
	Namespaces map[uint32]string
	// SkipInaccessible: a namespace that is gone, or that may not be entered, is no error.
	SkipInaccessible bool
	// WantHolders selects the sockets whose holders are looked up, by inode.
	WantHolders func(all *List) Inodes
	History     *History // may be nil
}

// Look lists the sockets of network namespaces.
func (s *Source) Look(r Request) (*Snapshot, error) {
	found := &Snapshot{Sockets: &List{}}
	for _, inode := range slices.Sorted(maps.Keys(r.Namespaces)) {
		err := netns.Enter(r.Namespaces[inode], inode, func() error {
			whole, err := s.List(found.Sockets, inode)
			found.Incomplete = found.Incomplete || err == nil && !whole
			return err
		})
		switch {
		case err == nil, r.SkipInaccessible && errors.Is(err, netns.ErrGone):
		case r.SkipInaccessible && errors.Is(err, fs.ErrPermission):
			found.InaccessibleSpaces++
		default:
			return nil, explain(inode, err)
		}
	}
	r.History.Resolve(found.Sockets, kernel.MonoNow())
	var err error
	found.Holders, found.HiddenProcesses, err = s.Holders(r.WantHolders(found.Sockets))
	if s.Processes != nil && err == nil {
		found.addProcesses(s.Processes)
	}
	found.KeptByExec = s.KeptByExec
	return found, err
}

// addProcesses adds to the holders what their processes show.
func (s *Snapshot) addProcesses(read func(pids map[uint32]bool) map[uint32]*Process) {
	pids := map[uint32]bool{}
	for i := range s.Holders.all {
		pids[s.Holders.all[i].PID] = true
	}
	processes := read(pids)
	for i := range s.Holders.all {
		s.Holders.all[i].Process = processes[s.Holders.all[i].PID]
	}
}

// explain adds a hint to why a network namespace cannot be listed.
func explain(inode uint32, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return hint.New(hint.Privilege,
			fmt.Sprintf("cannot enter network namespace %d: %v", inode, err),
			"run as root, outside of containers and security profiles: sudo closetrace stuck")
	case errors.Is(err, ErrUnsupported):
		return hint.New(hint.Unsupported,
			fmt.Sprintf("kernel %s does not list TCP sockets: %v", kernel.Release(), err),
			"run modprobe tcp_diag, or use a kernel with CONFIG_INET_TCP_DIAG")
	}
	return err
}
