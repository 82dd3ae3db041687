//go:build linux

package live

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
)

// key identifies one end of a connection.
type key struct{ local, remote netip.AddrPort }

// connect(2) without a free port puts its socket into SYN_SENT and back, and sends nothing. That is no disconnect.
func TestConnectWithoutPort(t *testing.T) { attempts(t, connectWithoutPort) }

func connectWithoutPort(t testing.TB) {
	inNetns(t, func(netns uint32) {
		d, err := newListener(loopback4)
		must(t, err)
		defer unix.Close(d.fd)
		tr := trace(t, probe.Filter{})
		bind := func(port uint16) int {
			fd, err := tcpSocket(loopback4)
			must(t, err)
			must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
			must(t, unix.Bind(fd, sockaddr(netip.AddrPortFrom(loopback4, port))))
			return fd
		}
		first := bind(0)
		defer unix.Close(first)
		must(t, unix.Connect(first, sockaddr(d.addr)))
		sa, err := unix.Getsockname(first)
		port := addrPort(t, sa, err).Port()
		second := bind(port)
		if err := unix.Connect(second, sockaddr(d.addr)); err != unix.EADDRNOTAVAIL {
			t.Fatalf("the second connection from port %d: %v", port, err)
		}
		must(t, unix.Close(second))
		tr.finish(t)
		var paths []string
		for _, e := range tr.endingsIn(netns) {
			if e.Local.Port() == port {
				paths = append(paths, string(e.Path))
			}
		}
		if got := strings.Join(paths, " "); got != string(events.ClosedNever) {
			t.Errorf("got %q, want %s", got, events.ClosedNever)
		}
	})
}

// Connections that close concurrently, on several threads: each close has exactly
// one ending, with the thread and addresses that made it.
func TestClosesAtOnce(t *testing.T) {
	const threads, perThread = 5, 10
	tr := traceSelf(t)
	l, addr := listen(t, loopback4)
	var ours, theirs []conn
	for range threads * perThread {
		a, b := connect(t, l, addr)
		ours, theirs = append(ours, a), append(theirs, b)
	}
	closedBy := map[key]uint32{}
	var mu sync.Mutex
	closeAll := func(conns []conn) {
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range threads {
			wg.Go(func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				<-start
				for _, c := range conns[i*perThread : (i+1)*perThread] {
					if err := unix.Close(c.fd); err != nil {
						t.Error(err)
					}
					mu.Lock()
					closedBy[key{c.local, c.remote}] = uint32(unix.Gettid())
					mu.Unlock()
				}
			})
		}
		close(start)
		wg.Wait()
	}
	closeAll(ours)
	closeAll(theirs)
	must(t, unix.Close(l))

	tr.mayMiss = true
	seen, lost := map[key]int{}, 0 // lost: closes and FINs that were not seen
	for _, e := range tr.finish(t) {
		k := key{e.Local, e.Remote}
		tid, ok := closedBy[k]
		if !ok {
			continue // the listener
		}
		seen[k]++
		if e.Actor == nil || e.Actor.PID != uint32(os.Getpid()) || e.Actor.TID != tid {
			t.Errorf("%v: actor %+v, want pid %d tid %d", k, e.Actor, os.Getpid(), tid)
		}
		if e.RST || e.Trigger != events.TriggerClose {
			t.Errorf("%v: %s, rst %v, trigger %s", k, e.Path, e.RST, e.Trigger)
		}
		if !e.FIN {
			lost++
		}
	}
	for k := range closedBy {
		switch seen[k] {
		case 0:
			lost++
		case 1:
		default:
			t.Errorf("%v has %d endings, want 1", k, seen[k])
		}
	}
	if missed := int(tr.losses.MissedProbes); lost > missed {
		t.Errorf("%d closes or FINs were not seen, %d probes missed", lost, missed)
	}
}

// The unread bytes are the bytes the peer sent minus those that were read.
func TestUnreadBytes(t *testing.T) { attempts(t, unreadBytes) }

func unreadBytes(t testing.TB) {
	tr := traceSelf(t)
	rng := rand.New(rand.NewPCG(1, 2))
	l, addr := listen(t, loopback4)
	defer unix.Close(l)
	want := map[key]int{}
	for range 40 {
		a, b := connect(t, l, addr)
		sent := 1 + rng.IntN(5000)
		read := rng.IntN(sent)
		b.send(t, sent)
		a.queued(t, sent)
		if rng.IntN(2) == 0 {
			if _, _, err := unix.Recvfrom(a.fd, make([]byte, sent), unix.MSG_PEEK); err != nil {
				t.Fatal(err)
			}
		}
		a.recv(t, read)
		if rng.IntN(2) == 0 {
			must(t, unix.Shutdown(b.fd, unix.SHUT_WR))
			a.state(t, uint8(events.CloseWait))
		}
		must(t, unix.Close(a.fd))
		must(t, unix.Close(b.fd))
		want[key{a.local, a.remote}] = sent - read
	}
	for _, e := range tr.finish(t) {
		k := key{e.Local, e.Remote}
		if n, ok := want[k]; ok {
			if e.Path != events.CloseRSTUnread || int(e.Evidence.UnreadBytes) != n {
				t.Errorf("%v: %s with %d B unread, want %d", k, e.Path, e.Evidence.UnreadBytes, n)
			}
			delete(want, k)
		}
	}
	if len(want) > 0 {
		t.Errorf("no ending for %v", want)
	}
}

// The kernel's own counters move by as much as was reported.
func TestKernelCounters(t *testing.T) { attempts(t, kernelCounters) }

func kernelCounters(t testing.TB) {
	tr := trace(t, probe.Filter{})
	var moved map[string]uint64
	var ns uint32
	inNetns(t, func(netns uint32) {
		ns = netns
		before := counters(t)
		for _, addr := range []netip.Addr{loopback4, loopback6} {
			resetsOfEveryKind(t, addr)
		}
		moved = counters(t)
		for name := range moved {
			moved[name] -= before[name]
		}
	})
	reported := map[string]uint64{}
	for _, e := range tr.finish(t) {
		if e.Netns != ns {
			continue
		}
		if e.RST {
			reported["OutRsts"]++
		}
		switch e.Path {
		case events.CloseRSTUnread:
			reported["TCPAbortOnClose"]++
		case events.CloseRSTLinger0, events.CloseRSTLinger0Unsent, events.CloseSilentLinger0,
			events.CloseRSTLinger2Late, events.ShutdownData:
			reported["TCPAbortOnData"]++
		case events.CloseRSTLinger2:
			reported["TCPAbortOnLinger"]++
		}
	}
	for _, name := range []string{"OutRsts", "TCPAbortOnClose", "TCPAbortOnData", "TCPAbortOnLinger"} {
		if moved[name] == 0 || moved[name] != reported[name] {
			t.Errorf("%s moved by %d, reported %d", name, moved[name], reported[name])
		}
	}
}

// resetsOfEveryKind provokes resets after which the peer sends nothing, so that
// the kernel sends none in reply.
func resetsOfEveryKind(t testing.TB, addr netip.Addr) {
	l, address := listen(t, addr)
	for i := range 3 { // unread data
		a, b := connect(t, l, address)
		b.send(t, 10+i)
		a.queued(t, 10+i)
		must(t, unix.Close(a.fd))
		must(t, unix.Close(b.fd))
	}
	for range 4 { // SO_LINGER {1,0}
		a, b := connect(t, l, address)
		a.linger(t, 0)
		must(t, unix.Close(a.fd))
		must(t, unix.Close(b.fd))
	}
	for range 2 { // TCP_LINGER2 < 0 in FIN_WAIT2
		a, b := connect(t, l, address)
		must(t, unix.SetsockoptInt(a.fd, unix.IPPROTO_TCP, unix.TCP_LINGER2, -1))
		must(t, unix.Shutdown(a.fd, unix.SHUT_WR))
		a.state(t, uint8(events.FinWait2))
		must(t, unix.Close(a.fd))
		must(t, unix.Close(b.fd))
	}
	a, b := connect(t, l, address) // data after shutdown of both directions
	must(t, unix.Shutdown(a.fd, unix.SHUT_RDWR))
	b.state(t, uint8(events.CloseWait))
	b.send(t, 1)
	a.state(t, uint8(events.Close))
	must(t, unix.Close(a.fd))
	must(t, unix.Close(b.fd))
	must(t, unix.Close(l))
}

// counters returns the audited TCP counters of the namespace.
func counters(t testing.TB) map[string]uint64 {
	t.Helper()
	values := map[string]uint64{}
	for _, file := range []string{"/proc/thread-self/net/netstat", "/proc/thread-self/net/snmp"} {
		text, err := os.ReadFile(file)
		must(t, err)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, numbers := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			if names[0] != "TcpExt:" && names[0] != "Tcp:" {
				continue
			}
			for j := 1; j < len(names); j++ {
				var n uint64
				if _, err := fmt.Sscan(numbers[j], &n); err == nil {
					values[names[j]] = n
				}
			}
		}
	}
	return values
}
