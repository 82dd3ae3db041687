//go:build linux

package live

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/lab"
)

// inStuckNetns runs f in a new namespace, once with IPv4 and once with IPv6.
func inStuckNetns(t *testing.T, f func(t *testing.T, listener int, address netip.AddrPort)) {
	for _, addr := range []netip.Addr{loopback4, loopback6} {
		t.Run(addr.String(), func(t *testing.T) {
			inNetns(t, func(uint32) {
				d, err := newListener(addr)
				must(t, err)
				defer unix.Close(d.fd)
				f(t, d.fd, d.addr)
			})
		})
	}
}

// unaccepted returns a connection whose other end is still in the accept queue.
func unaccepted(t *testing.T, addr netip.AddrPort) (a, b conn) {
	t.Helper()
	a.fd = socket(t, addr.Addr())
	must(t, unix.Connect(a.fd, sockaddr(addr)))
	sa, err := unix.Getsockname(a.fd)
	a.local, a.remote = addrPort(t, sa, err), addr
	return a, conn{fd: -1, local: addr, remote: a.local}
}

// afterPeer returns the accepted end of a connection whose peer has sent n bytes
// and closed. It is in CLOSE_WAIT, and nothing was read.
func afterPeer(t *testing.T, listener int, addr netip.AddrPort, n int) conn {
	t.Helper()
	a, b := connect(t, listener, addr)
	if n > 0 {
		a.send(t, n)
	}
	must(t, unix.Close(a.fd))
	b.state(t, unix.BPF_TCP_CLOSE_WAIT)
	return b
}

// Real sockets get every diagnosis.
func TestStuck(t *testing.T) {
	privileged(t)
	t.Run("never-accepted", stuckNeverAccepted)
	t.Run("accept-queue-full", stuckQueueFull)
	t.Run("leaked", stuckLeaked)
	t.Run("not-reading", stuckNotReading)
	t.Run("eof-read-with-data", stuckEOFReadWithData)
	t.Run("busy-sending", stuckBusySending)
	t.Run("forked-child", stuckForkedChild)
	t.Run("peer-open", stuckPeerOpen)
	t.Run("peer-silent", stuckPeerSilent)
	t.Run("in-a-thread", stuckInAThread)
	t.Run("elsewhere", stuckOtherNetns)
	t.Run("unprivileged", stuckUnprivileged)
	t.Run("none", nothingStuck)
	t.Run("many", stuckMany)
	t.Run("in-all-netns", stuckInAllNetns)
	t.Run("lab", stuckInTheLab)
}

// recvEOF reads until EOF.
func (c conn) recvEOF(t *testing.T) {
	t.Helper()
	c.state(t, unix.BPF_TCP_CLOSE_WAIT)
	if n, err := unix.Read(c.fd, make([]byte, 1)); n != 0 || err != nil {
		t.Fatalf("read %d bytes before the end: %v", n, err)
	}
}

func stuckNeverAccepted(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		a, b := unaccepted(t, addr)
		a.send(t, 5)
		must(t, unix.Close(a.fd))
		l := waitStuck(t, b, "CLOSE_WAIT", "never-accepted")
		l.checkEOF(t, false)
		if l.Unread != 5 || len(l.Holders) != 0 || l.Listener == nil {
			t.Fatalf("got %+v", l)
		}
		if d := l.Listener; d.Address != addr.String() || d.Queued != 1 || d.Backlog != 128 ||
			len(d.Holders) != 1 || d.Holders[0].PID != os.Getpid() || !slices.Equal(d.Holders[0].FDs, []int{listener}) {
			t.Errorf("the listener is %+v", d)
		}
	})
}

// A listener is listed while its accept queue is full.
func stuckQueueFull(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		must(t, unix.Listen(listener, 1))
		for queued := range 2 {
			if l := runStuckAt(t, addr); l.Diagnosis != "" {
				t.Errorf("%d of 1 wait: %+v", queued, l)
			}
			a, _ := unaccepted(t, addr)
			defer unix.Close(a.fd)
		}
		var l stuckLine
		eventually(t, "a full queue", func() bool { l = runStuckAt(t, addr); return l.Diagnosis == "accept-queue-full" })
		l.checkHolder(t, listener)
		why := fmt.Sprintf("[%d] does not accept, or too slowly", os.Getpid())
		if l.State != "LISTEN" || l.Remote != "" || l.AgeAtLeastMS != nil || l.Listener == nil || l.Listener.Queued != 2 ||
			l.Listener.Backlog != 1 || !strings.HasPrefix(l.Why, "the accept queue is full (2 of 1); ") ||
			!strings.HasSuffix(l.Why, why) {
			t.Errorf("got %+v", l)
		}
		var other stuckLine
		for _, one := range allByIterators(t) {
			if one.Local == addr.String() {
				other = one
			}
		}
		if !reflect.DeepEqual(comparable(l), comparable(other)) {
			t.Errorf("sock_diag: %+v\niterators: %+v", l, other)
		}
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		must(t, err)
		defer unix.Close(fd)
		if l := runStuckAt(t, addr); l.Diagnosis != "" {
			t.Errorf("after accept(2): %+v", l)
		}
	})
}

// A read that ends exactly before a FIN consumes the FIN although it returns
// bytes. The EOF then counts as read before the application sees it.
func stuckEOFReadWithData(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		b := afterPeer(t, listener, addr, 10)
		defer unix.Close(b.fd)
		b.recv(t, 10)
		l := waitStuck(t, b, "CLOSE_WAIT", "leaked")
		l.checkEOF(t, true)
	})
}

func stuckBusySending(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		a, b := connect(t, listener, addr)
		defer unix.Close(a.fd)
		must(t, unix.Shutdown(a.fd, unix.SHUT_WR))
		b.state(t, unix.BPF_TCP_CLOSE_WAIT)
		must(t, unix.SetNonblock(b.fd, true))
		for block := make([]byte, 1<<20); ; {
			if _, err := unix.Write(b.fd, block); err == unix.EAGAIN {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		l := waitStuck(t, b, "CLOSE_WAIT", "busy-sending")
		l.checkHolder(t, b.fd)
		if l.Unsent == 0 {
			t.Errorf("got %+v", l)
		}
		// The same after a close: no process holds it.
		b.recvEOF(t)
		must(t, unix.Close(b.fd))
		l = waitStuck(t, b, "LAST_ACK", "busy-sending")
		if l.Unsent == 0 || len(l.Holders) != 0 || l.EOFRead != nil {
			t.Errorf("after the close: %+v", l)
		}
		const probed = "; the peer's receive window is closed, the kernel probes it"
		for end := time.Now().Add(10 * time.Second); !strings.HasSuffix(l.Why, probed); l = runStuck(t, b) {
			if time.Now().After(end) {
				t.Fatalf("after probes: %+v", l)
			}
		}
		checkSourcesAgree(t, b, l)
	})
}

func stuckPeerOpen(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		a, b := connect(t, listener, addr)
		defer unix.Close(b.fd)
		must(t, unix.Shutdown(a.fd, unix.SHUT_WR))
		l := waitStuck(t, a, "FIN_WAIT2", "peer-open")
		l.checkHolder(t, a.fd)
		if l.EndsInMS != nil || l.AgeAtLeastMS == nil {
			t.Errorf("half closed: %+v", l)
		}
		must(t, unix.Close(a.fd))
		eventually(t, "a time to end", func() bool { l = runStuck(t, a, "--source", "sock_diag"); return l.EndsInMS != nil })
		if len(l.Holders) != 0 || l.State != "FIN_WAIT2" || l.Diagnosis != "peer-open" {
			t.Errorf("closed: %+v", l)
		}
		checkSourcesAgree(t, a, l)
	})
}

// The link is down, so that a FIN is retransmitted.
func stuckPeerSilent(t *testing.T) {
	inStuckNetns(t, func(t *testing.T, listener int, addr netip.AddrPort) {
		a, b := connect(t, listener, addr)
		defer unix.Close(b.fd)
		must(t, setLoopback(0))
		must(t, unix.Close(a.fd))
		l := waitStuck(t, a, "FIN_WAIT1", "peer-silent")
		if l.Unsent+l.Unacked != 0 {
			t.Errorf("got %+v", l)
		}
		if addr.Addr().Is6() {
			return // ::1 disappears with the device: no retransmission
		}
		eventually(t, "an age", func() bool {
			l = waitStuck(t, a, "FIN_WAIT1", "peer-silent")
			return l.AgeAtLeastMS != nil
		})
		if *l.AgeAtLeastMS > time.Minute.Milliseconds() {
			t.Errorf("got %+v", l)
		}
	})
}

// Without stuck sockets, closetrace says so and names the namespace.
func nothingStuck(t *testing.T) {
	inNetns(t, func(uint32) {
		path, err := program()
		must(t, err)
		out, err := exec.Command(path, "stuck").CombinedOutput()
		want := "closetrace: no sockets are stuck in CLOSE_WAIT, FIN_WAIT1/2, CLOSING or LAST_ACK," +
			" and no accept queue is full in this network namespace (--all-netns: in all)\n"
		if err != nil || !strings.HasPrefix(string(out), "COUNT ") || !strings.HasSuffix(string(out), want) {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// --netns finds a namespace by its path, and --all-netns finds it without one.
func stuckInAllNetns(t *testing.T) {
	var b conn
	inNetns(t, func(uint32) {
		l, addr := listen(t, loopback4)
		defer unix.Close(l)
		var a conn
		a, b = connect(t, l, addr)
		must(t, unix.Close(a.fd))
		b.state(t, unix.BPF_TCP_CLOSE_WAIT)
		holder := startChild(t, "idle") // a process in this namespace
		defer holder.exit(t)
		path := "/proc/" + itoa(holder.Process.Pid) + "/ns/net"
		outside := make(chan [4]stuckLine)
		go func() { // by another thread
			defer close(outside)
			outside <- [4]stuckLine{
				runStuck(t, b, "--all-netns", "--source", "iterator"), runStuck(t, b, "--netns", path, "--source", "iterator"),
				runStuck(t, b, "--all-netns", "--source", "sock_diag"), runStuck(t, b, "--netns", path, "--source", "sock_diag"),
			}
		}()
		for i, found := range <-outside {
			if found.Diagnosis != "not-reading" {
				t.Errorf("%d: got %+v", i, found)
			}
		}
	})
	must(t, unix.Close(b.fd))
}

// The lab leaves sockets of each diagnosis behind, and closetrace lists exactly
// these.
func stuckInTheLab(t *testing.T) {
	scenarios, err := lab.Scenarios()
	must(t, err)
	for _, sc := range scenarios {
		if len(sc.Stuck) == 0 {
			continue
		}
		t.Run(sc.Name, func(t *testing.T) {
			path, err := program()
			must(t, err)
			var wrong []lab.Mismatch
			res, err := sc.Run(t.Context(), func(res *lab.Result) {
				for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
					out, err := exec.Command(path, "stuck", "-o", "json", "--source", "sock_diag").
						Output()
						// by this thread, in the scenario's namespace
					must(t, err)
					wrong = lab.CompareStuck(sc, res, stuckSeen(stuckLines(t, out)))
					wrong = append(wrong, lab.CompareStuck(sc, res, stuckSeen(allByIterators(t)))...)
					if len(wrong) == 0 || time.Now().After(end) {
						return
					}
				}
			})
			must(t, err)
			if res.NotPossible != "" {
				t.Skip("not possible here: " + res.NotPossible)
			}
			for _, m := range wrong {
				t.Error(m)
			}
		})
	}
}

func stuckSeen(lines []stuckLine) (all []lab.StuckSeen) {
	for _, l := range lines {
		addr := lab.Endpoint{Local: netip.MustParseAddrPort(l.Local)}
		if l.Remote != "" { // a listener has none
			addr.Remote = netip.MustParseAddrPort(l.Remote)
		}
		all = append(all, lab.StuckSeen{Endpoint: addr, Diagnosis: l.Diagnosis})
	}
	return all
}
