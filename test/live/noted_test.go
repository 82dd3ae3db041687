//go:build linux

package live

import (
	"log/slog"
	"maps"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
)

// notedPlaces is NOTED_PLACES of bpf/maps.h.
const notedPlaces = 4096

// quietTracer returns a tracer in the quiet tier.
func quietTracer(t testing.TB, f probe.Filter) *tracer {
	tr := traceWith(t, probe.Options{
		CloseWait: 10 * time.Second, Log: slog.New(slog.DiscardHandler), Filter: f,
		Quiet: probe.Quiet{Active: true, Passive: true},
	})
	tr.mayMiss = true
	return tr
}

// pathsIn returns how many endings a tracer saw in a network namespace, by path.
func (tr *tracer) pathsIn(netns uint32) map[events.Path]int {
	paths := map[events.Path]int{}
	for _, e := range tr.endingsIn(netns) {
		paths[e.Path]++
	}
	return paths
}

// pairs returns both ends of n connections.
func pairs(t testing.TB, d boundSocket, n int) (ours, theirs []int) {
	t.Helper()
	for range n {
		a, b, err := d.pair()
		must(t, err)
		ours, theirs = append(ours, a), append(theirs, b)
	}
	return ours, theirs
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// dropAll lets a socket receive nothing any more.
func dropAll(fd int) error {
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
}

// inThreadOfPlace runs f in another thread, whose noted closes have the place of those of this one, as soon as it
// receives from start. It reports whether there is such a thread. The threads that are none end.
func inThreadOfPlace(start <-chan bool, f func()) (done chan bool, found bool) {
	place, fits := unix.Gettid()%notedPlaces, make(chan bool)
	done = make(chan bool)
	for range 3 * notedPlaces {
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			if unix.Gettid()%notedPlaces != place {
				fits <- false
				return
			}
			fits <- true
			<-start
			f()
			close(done)
		}()
		if <-fits {
			return done, true
		}
	}
	return nil, false
}

// Two threads close at once whose noted closes have the same place: each of their closes is counted or reported as what
// it is, never both.
func TestNotedPlaceOfTwoThreads(t *testing.T) { attempts(t, notedPlaceOfTwoThreads) }

func notedPlaceOfTwoThreads(t testing.TB) {
	n := scaled(1000, 300)
	raiseFileLimit(t, 4*n+200)
	inNetns(t, func(netns uint32) {
		d, err := newListener(loopback4)
		must(t, err)
		defer unix.Close(d.fd)
		tr := quietTracer(t, probe.Filter{})
		before := maps.Clone(tr.probe.Counted())
		ours, others := pairs(t, d, 2*n)
		closeAll(others) // so that our closes find the FIN of the peer, and end the connection
		start := make(chan bool)
		done, found := inThreadOfPlace(start, func() { closeAll(ours[n:]) })
		if !found {
			t.Skip("no other thread has an id with the same remainder: the kernel gives out fewer ids than that")
		}
		close(start)
		closeAll(ours[:n])
		<-done
		time.Sleep(300 * time.Millisecond)
		counted := tr.probe.Counted()[events.CloseFINPassive] - before[events.CloseFINPassive]
		tr.finish(t)
		paths := tr.pathsIn(netns)
		if got := int(counted) + paths[events.CloseFINPassive]; got < 2*n {
			t.Errorf("%d closes in CLOSE_WAIT, want %d: %d counted, %v reported", got, 2*n, counted, paths)
		}
		if paths[events.CloseSilentClosed] != 0 || tr.unexplained != 0 {
			t.Errorf("reported %v, %d not explained", paths, tr.unexplained)
		}
	})
}

// Closes that are reported after all, because the kernel has too many orphans, take back their notes. The notes of
// later closes are read nevertheless.
func TestNotesAfterNotesTakenBack(t *testing.T) { attempts(t, notesAfterNotesTakenBack) }

func notesAfterNotesTakenBack(t testing.TB) {
	const many = 20
	limit, err := os.OpenFile("/proc/sys/net/ipv4/tcp_max_orphans", os.O_RDWR, 0) // other namespaces do not have it
	must(t, err)
	defer limit.Close()
	usual := make([]byte, 32)
	n, err := limit.Read(usual)
	must(t, err)
	setLimit := func(text []byte) {
		_, err := limit.WriteAt(text, 0)
		must(t, err)
	}
	inNetns(t, func(netns uint32) {
		must(t, onFirstCPU()) // each CPU has its own notes
		d, err := newListener(loopback4)
		must(t, err)
		defer unix.Close(d.fd)
		tr := quietTracer(t, probe.Filter{})
		ours, theirs := pairs(t, d, many+4)
		for _, fd := range theirs[:4] {
			must(t, dropAll(fd)) // the FIN is not acknowledged: our end stays an orphan
		}
		closeAll(ours[:4])
		time.Sleep(3 * time.Second) // the kernel counts them every 100 ms (tcp_orphan_update)
		setLimit([]byte("0\n"))
		closeAll(ours[4:])
		setLimit(usual[:n])
		time.Sleep(300 * time.Millisecond)
		ours, later := pairs(t, d, 1)
		must(t, unix.SetsockoptInt(ours[0], unix.IPPROTO_TCP, unix.TCP_LINGER2, 100)) // no TIME_WAIT socket replies
		closeAll(ours)
		time.Sleep(50 * time.Millisecond)
		_, err = unix.Write(later[0], []byte("123456789"))
		must(t, err)
		time.Sleep(300 * time.Millisecond)
		closeAll(append(theirs, later...))
		tr.finish(t)
		paths, replies := tr.pathsIn(netns), 0
		if n := paths[events.CloseRSTOOM]; n <= 8 || tr.unexplained != 0 {
			t.Fatalf("%d of %d closes were reset, want more than 8; %d not explained", n, many, tr.unexplained)
		}
		for _, e := range tr.endingsIn(netns) {
			if e.Path == events.ReplyAfterClose {
				replies++
				if e.Earlier == nil || e.Earlier.Actor == nil || e.Earlier.Actor.PID != uint32(os.Getpid()) {
					t.Errorf("who closed the connection is not known: %s", e.Cause)
				}
			}
		}
		if replies != 1 {
			t.Errorf("reported %v, want one %s", paths, events.ReplyAfterClose)
		}
	})
}

// A socket that no filter selects and whose last descriptor was in a dropped message neither ends the counting of
// ordinary closes nor lends its trigger to the next socket at its address.
func TestDroppedMessageOfUnwantedSocket(t *testing.T) { attempts(t, droppedMessageOfUnwantedSocket) }

func droppedMessageOfUnwantedSocket(t testing.TB) {
	const many = 20
	inNetns(t, func(netns uint32) {
		unwanted, err := newListener(loopback4)
		must(t, err)
		defer unix.Close(unwanted.fd)
		wanted, err := newListener(loopback4)
		must(t, err)
		defer unix.Close(wanted.fd)
		tr := quietTracer(t, probe.Filter{Ports: []uint16{wanted.addr.Port()}})
		ours, theirs := pairs(t, unwanted, 8)
		for _, fd := range ours {
			message, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			must(t, err)
			must(t, unix.Sendmsg(message[0], []byte("x"), unix.UnixRights(fd), nil, 0))
			unix.Close(fd)
			closeAll(message[:])
		}
		closeAll(theirs)
		time.Sleep(100 * time.Millisecond)
		before := tr.probe.Counted()[events.CloseFINActive]
		ours, theirs = pairs(t, wanted, many)
		closeAll(ours)
		closeAll(theirs)
		time.Sleep(300 * time.Millisecond)
		counted := tr.probe.Counted()[events.CloseFINActive] - before
		tr.finish(t)
		for _, e := range tr.endingsIn(netns) {
			if e.Trigger == events.TriggerSCMRights {
				t.Errorf("no descriptor of %s was in a message: trigger %s", e.Local, e.Trigger)
			}
		}
		if counted != many {
			t.Errorf("%d of %d ordinary closes counted", counted, many)
		}
	})
}
