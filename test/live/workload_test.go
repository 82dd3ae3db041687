//go:build linux

package live

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// How much a workload does: so many acts, or on a slow machine as many as there
// is time for, but enough of them.
const (
	maxActs  = 400
	minActs  = 120
	loadTime = 12 * time.Second
	workers  = 6
)

// workload uses connections on lo and ends them at random. Each act has its own
// random numbers, which do not depend on the scheduling of threads.
type workload struct {
	t     testing.TB
	seed  uint64
	netns int // descriptor
	began time.Time
	acts  atomic.Int64
}

// newWorkload returns a workload for the namespace of the calling thread.
func newWorkload(t testing.TB, seed uint64) *workload {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	return &workload{t: t, seed: seed, netns: fd}
}

func (w *workload) run() {
	w.began = time.Now()
	var wg sync.WaitGroup
	for n := range workers {
		wg.Go(func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			if err := unix.Setns(w.netns, unix.CLONE_NEWNET); err != nil {
				w.t.Errorf("enter the namespace: %v", err)
				return
			}
			if err := w.work(n); err != nil {
				w.t.Errorf("worker %d: %v", n, err)
			}
		})
	}
	wg.Wait()
	unix.Close(w.netns)
}

// next numbers the acts. ok is false after the last one.
func (w *workload) next() (n uint64, ok bool) {
	i := w.acts.Add(1)
	if i > maxActs || i > minActs && time.Since(w.began) > loadTime {
		w.acts.Add(-1)
		return 0, false
	}
	return uint64(i), true
}

func (w *workload) work(n int) error {
	s := &worker{}
	for _, addr := range []netip.Addr{loopback4, loopback6, netip.AddrFrom16(loopback4.As16())} {
		d, err := newListener(addr)
		if err != nil {
			return err
		}
		defer unix.Close(d.fd)
		s.listeners = append(s.listeners, d)
	}
	for i := range uint16(3) {
		s.ports = append(s.ports, 20000+10*uint16(n)+i)
	}
	for {
		i, ok := w.next()
		if !ok {
			return nil
		}
		s.rng = rand.New(rand.NewPCG(w.seed, i))
		if err := s.randomAct(); err != nil {
			return fmt.Errorf("act %d: %w", i, err)
		}
	}
}

// worker has the listeners and ports of one thread.
type worker struct {
	rng       *rand.Rand
	listeners []boundSocket
	ports     []uint16 // of its own, which its connections use again and again
}

// randomAct does one of the things that applications do with connections.
func (s *worker) randomAct() error {
	switch n := s.rng.IntN(100); {
	case n < 4:
		return s.helper()
	case n < 10:
		return s.connectToClosedPort()
	case n < 18:
		return s.closeListener()
	case n < 60:
		return s.useConnection(interleaved)
	}
	return s.useConnection(atOnce)
}

func (s *worker) listener() boundSocket { return s.listeners[s.rng.IntN(len(s.listeners))] }

// useConnection uses and ends one connection.
func (s *worker) useConnection(how func(a, b *end)) error {
	a, b, err := s.connection()
	if a == nil || err != nil {
		return err
	}
	how(a, b)
	return nil
}

// interleaved uses both ends on one thread.
func interleaved(a, b *end) {
	ends := []*end{a, b}
	for range a.rng.IntN(14) {
		ends[a.rng.IntN(2)].step()
	}
	first := a.rng.IntN(2)
	ends[first].close()
	ends[1-first].step()
	ends[1-first].close()
}

// atOnce uses each end on its own thread.
func atOnce(a, b *end) {
	var wg sync.WaitGroup
	for _, e := range []*end{a, b} {
		wg.Go(func() {
			for range e.rng.IntN(8) {
				e.step()
			}
			e.close()
		})
	}
	wg.Wait()
}

// connection makes a connection, from a free port or from one that was used
// before. It returns nil if the rest of an earlier connection prevents it.
func (s *worker) connection() (a, b *end, err error) {
	d := s.listener()
	port := uint16(0)
	if s.rng.IntN(3) == 0 {
		port = s.ports[s.rng.IntN(len(s.ports))]
	}
	fd, addr := d.connect(port)
	if fd < 0 {
		return nil, nil, nil
	}
	peer, err := d.accept(addr)
	if err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	return s.end(fd), s.end(peer), nil
}

func (s *worker) end(fd int) *end {
	e := &end{fd: fd, rng: rand.New(rand.NewPCG(s.rng.Uint64(), 0))}
	if s.rng.IntN(4) == 0 { // a window that is soon closed
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
	}
	return e
}

// connectToClosedPort connects to a port without a listener.
func (s *worker) connectToClosedPort() error {
	d, err := newClosedPort(s.listener().addr.Addr())
	if err != nil {
		return err
	}
	defer unix.Close(d.fd)
	if fd, _ := d.connect(0); fd >= 0 {
		unix.Close(fd)
		return fmt.Errorf("there is a listener at %v", d.addr)
	}
	return nil
}

// closeListener closes a listener with connections in its accept queue.
func (s *worker) closeListener() error {
	d, err := newListener(s.listener().addr.Addr())
	if err != nil {
		return err
	}
	var ends []*end
	for range 1 + s.rng.IntN(3) {
		if fd, _ := d.connect(0); fd >= 0 {
			e := s.end(fd)
			ends = append(ends, e)
			e.step()
		}
	}
	if s.rng.IntN(4) == 0 {
		_ = unix.Shutdown(d.fd, unix.SHUT_RDWR)
	}
	unix.Close(d.fd)
	for _, e := range ends {
		e.step()
		e.close()
	}
	return nil
}
