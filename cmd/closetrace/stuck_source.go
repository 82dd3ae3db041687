package main

import (
	"log/slog"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sockets"
	"github.com/closetrace/closetrace/internal/stuck"
)

// stuckSource is a way to learn of sockets, and of who holds them.
type stuckSource struct {
	name string
	// sockets are those of the network namespace behind a path, which has to be the
	// one with this inode number still; without a path, of this process's own.
	// Not whole: some changed meanwhile, and may be missing.
	sockets func(path string, inode uint32) (all []stuck.Socket, whole bool, err error)
	// holders are those of sockets, by inode, and how many processes hide theirs.
	holders func(wanted map[uint64]bool) (found map[uint64][]stuck.Holder, hidden int, err error)
	close   func() error
	// history tells of sockets what a record knows of them.
	history *stuck.History
}

// The choices of --source.
const (
	sourceAuto     = "auto"
	sourceIterator = "iterator"
	sourceSockDiag = "sock_diag"
)

// source is the one that was asked for, or the best that works.
func (f *stuckFlags) open(e *env) (*stuckSource, error) {
	log := logger(e, f.verbose)
	if f.source != sourceSockDiag {
		s, err := e.iterators(f.watch > 0, log)
		if err == nil || f.source == sourceIterator {
			return s, err
		}
		log.Debug("no BPF iterators", "because", err)
		if f.watch > 0 {
			log.Warn("no change of state is traced: every age is the least that is certain", "because", err)
		}
	}
	log.Debug("asked", "source", sourceSockDiag)
	return e.sockDiag(), nil
}

// bySockDiag asks sock_diag(7), and /proc for the holders.
func bySockDiag() *stuckSource {
	return &stuckSource{
		name:    sourceSockDiag,
		sockets: inEachNetns(sockets.List),
		holders: func(wanted map[uint64]bool) (map[uint64][]stuck.Holder, int, error) {
			found, hidden := holdersIn("/proc", wanted)
			return found, hidden, nil
		},
		close: func() error { return nil },
	}
}

// byIterators reads BPF iterators, which need no /proc. With trace, changes of
// state are traced meanwhile.
func byIterators(trace bool, log *slog.Logger) (*stuckSource, error) {
	it, err := probe.OpenIterators(trace, log)
	if err != nil {
		return nil, err
	}
	log.Debug("asked", "source", sourceIterator, "traces", it.Traces())
	return &stuckSource{
		name: sourceIterator,
		sockets: inEachNetns(func(uint32) ([]stuck.Socket, bool, error) {
			all, err := it.Sockets()
			return all, true, err
		}),
		holders: func(wanted map[uint64]bool) (map[uint64][]stuck.Holder, int, error) {
			found, err := it.Holders(wanted)
			return found, 0, err
		},
		close: it.Close,
	}, nil
}

// inEachNetns makes a list of the calling thread's network namespace one of any.
func inEachNetns(list func(inode uint32) ([]stuck.Socket, bool, error)) func(string, uint32) ([]stuck.Socket, bool, error) {
	return func(path string, inode uint32) (all []stuck.Socket, whole bool, err error) {
		if path == "" {
			return list(inode)
		}
		if now, err := netnsInode(path); err != nil || now != inode {
			return nil, false, errNetnsGone
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			err = inNetns(path, func() (err error) {
				all, whole, err = list(inode)
				return err
			})
		}()
		<-done
		return all, whole, err
	}
}

// holdersIn looks for holders in a /proc.
func holdersIn(proc string, wanted map[uint64]bool) (map[uint64][]stuck.Holder, int) {
	found, hidden := enrich.Holders(proc, wanted)
	holders := make(map[uint64][]stuck.Holder, len(found))
	for inode, all := range found {
		for _, h := range all {
			holders[inode] = append(holders[inode], stuck.Holder{
				PID: h.PID, Comm: h.Comm, UID: h.UID, FDs: h.FDs, Parent: h.Parent, Age: h.Age,
			})
		}
	}
	return holders, hidden
}
