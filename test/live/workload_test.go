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

// workload is connections on lo that are used and ended at random. Each act has
// its own random numbers, so that it does the same however threads meet.
type workload struct {
	t     testing.TB
	seed  uint64
	netns int // descriptor
	began time.Time
	acts  atomic.Int64
}

// newWorkload is for the namespace of the calling thread.
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

// next numbers the acts; ok is false when there have been enough.
func (w *workload) next() (n uint64, ok bool) {
	i := w.acts.Add(1)
	if i > maxActs || i > minActs && time.Since(w.began) > loadTime {
		w.acts.Add(-1)
		return 0, false
	}
	return uint64(i), true
}

func (w *workload) work(n int) error {
	s := &stage{}
	for _, addr := range []netip.Addr{loopback4, loopback6, netip.AddrFrom16(loopback4.As16())} {
		d, err := openDoor(addr)
		if err != nil {
			return err
		}
		defer unix.Close(d.fd)
		s.doors = append(s.doors, d)
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
		if err := s.act(); err != nil {
			return fmt.Errorf("act %d: %w", i, err)
		}
	}
}

// stage is what one worker acts on.
type stage struct {
	rng   *rand.Rand
	doors []door
	ports []uint16 // of its own, which its connections use again and again
}

// act is one of the things that applications do with connections.
func (s *stage) act() error {
	switch n := s.rng.IntN(100); {
	case n < 4:
		return s.helper()
	case n < 10:
		return s.knock()
	case n < 18:
		return s.leave()
	case n < 60:
		return s.converse(interleaved)
	}
	return s.converse(atOnce)
}

func (s *stage) door() door { return s.doors[s.rng.IntN(len(s.doors))] }

// converse uses and ends one connection.
func (s *stage) converse(how func(a, b *end)) error {
	a, b, err := s.connection()
	if a == nil || err != nil {
		return err
	}
	how(a, b)
	return nil
}

// interleaved: one thread has both ends.
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

// atOnce: each end has a thread of its own.
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

// connection makes one, from any port or from one that was used before. It
// gives nothing if what is left of the one before stands in the way.
func (s *stage) connection() (a, b *end, err error) {
	d := s.door()
	port := uint16(0)
	if s.rng.IntN(3) == 0 {
		port = s.ports[s.rng.IntN(len(s.ports))]
	}
	fd, at := d.connect(port)
	if fd < 0 {
		return nil, nil, nil
	}
	peer, err := d.accept(at)
	if err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	return s.end(fd), s.end(peer), nil
}

func (s *stage) end(fd int) *end {
	e := &end{fd: fd, rng: rand.New(rand.NewPCG(s.rng.Uint64(), 0))}
	if s.rng.IntN(4) == 0 { // a window that is soon closed
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
	}
	return e
}

// knock connects to a port where nobody listens.
func (s *stage) knock() error {
	d, err := shutDoor(s.door().at.Addr())
	if err != nil {
		return err
	}
	defer unix.Close(d.fd)
	if fd, _ := d.connect(0); fd >= 0 {
		unix.Close(fd)
		return fmt.Errorf("somebody listens at %v", d.at)
	}
	return nil
}

// leave closes a listener with connections that it has not accepted.
func (s *stage) leave() error {
	d, err := openDoor(s.door().at.Addr())
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
