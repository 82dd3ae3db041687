//go:build linux

package live

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
)

const requestSize = 18 // "GET / HTTP/1.1\r\n\r\n"

// What people report in public, made of sockets: the line says what happened.
func TestFieldCases(t *testing.T) {
	onStage(t, func(t testing.TB, s *stage) {
		s.do(t, func() error {
			s.serverDies(t)
			s.readGivenUp(t)
			s.resetOfOrphan(t)
			s.boundOnly(t)
			s.dualStack(t)
			s.unreadWithoutReset(t)
			s.writeInCloseWait(t)
			return nil
		})
	})
}

// serverDies: the server of a request is killed, crashes, or exits.
func (s *stage) serverDies(t testing.TB) {
	for _, end := range []struct {
		signal syscall.Signal // 0: it exits
		words  string
	}{
		{syscall.SIGKILL, "] was killed by SIGKILL; 18 B had come and nothing was sent"},
		{syscall.SIGSEGV, "] crashed (SIGSEGV); 18 B had come and nothing was sent"},
		{0, "] exited without closing, with status 3; 18 B had come and nothing was sent"},
	} {
		a, b := newPair(t, loopback4)
		a.send(t, requestSize)
		b.queued(t, requestSize)
		b.recv(t, requestSize)
		server := startChildWith(t, []*os.File{fileOf(t, b.fd)}, "die")
		must(t, server.ExtraFiles[0].Close())
		must(t, unix.Close(b.fd))
		name := readTrimmed(t, fmt.Sprintf("/proc/%d/comm", server.Process.Pid))
		if end.signal == 0 {
			must(t, server.stdin.Close())
		} else {
			must(t, server.Process.Signal(end.signal))
		}
		_ = server.Wait() // its status is in the words
		s.want(events.CloseFINActive, a.local.Port(), name, fmt.Sprintf("%s[%d", name, server.Process.Pid)+end.words)
		a.state(t, uint8(events.CloseWait))
		must(t, unix.Close(a.fd))
	}
}

// die exits with status 3 when its standard input ends, without closing anything. A signal kills it as it does a
// program that handles none.
func die([]string) error {
	var byDefault [4]uint64 // struct sigaction
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGSEGV),
		uintptr(unsafe.Pointer(&byDefault)), 0, unsafe.Sizeof(byDefault[0]), 0, 0)
	if errno != 0 {
		return errno
	}
	ready()
	os.Exit(3)
	return nil
}

// readGivenUp: the application waits for an answer, and closes.
func (s *stage) readGivenUp(t testing.TB) {
	a, b := newPair(t, loopback4)
	a.send(t, requestSize)
	b.recv(t, requestSize)
	time.Sleep(1200 * time.Millisecond) // what the line says
	must(t, unix.Close(a.fd))
	s.want(events.CloseFINActive, a.local.Port(), "", "closed 1.", " s after its last byte was sent, unanswered")
	must(t, unix.Close(b.fd))
}

// resetOfOrphan: a RST reaches a connection that its application has closed.
func (s *stage) resetOfOrphan(t testing.TB) {
	a, b := newPair(t, loopback4)
	must(t, unix.SetNonblock(a.fd, true))
	for block := make([]byte, 1<<16); ; {
		if _, err := unix.Write(a.fd, block); err != nil {
			break
		}
	}
	must(t, unix.Close(a.fd))
	must(t, unix.Close(b.fd)) // with bytes unread
	s.want(events.RecvRST, a.local.Port(), "", "in FIN_WAIT1", "closed it (close.fin.active): no application learns of it",
		"B that it believes sent are lost", "; peer ", "B unread")
}

// boundOnly: a socket was bound and never connected.
func (s *stage) boundOnly(t testing.TB) {
	for _, addr := range []netip.Addr{loopback4, loopback6} {
		d, err := newClosedPort(addr)
		must(t, err)
		must(t, unix.Close(d.fd))
		s.want(events.ClosedNever, d.addr.Port(), "", "never connected")
	}
}

// dualStack: one connection has two spellings of its addresses.
func (s *stage) dualStack(t testing.TB) {
	a, b := newPair(t, netip.IPv6Unspecified())
	b.send(t, 9)
	a.queued(t, 9)
	must(t, unix.Close(a.fd))
	s.want(events.CloseRSTUnread, a.local.Port(), "", "9 B unread")
	s.want(events.RecvRST, a.local.Port(), "", "ECONNRESET; peer ", "B unread")
	must(t, unix.Close(b.fd))
}

// unreadWithoutReset: a close after both FINs throws away what was not read, as that
// of Java after its shutdown(SHUT_WR).
func (s *stage) unreadWithoutReset(t testing.TB) {
	a, b := newPair(t, loopback4)
	a.send(t, 321)
	b.queued(t, 321)
	must(t, unix.Shutdown(b.fd, unix.SHUT_WR))
	a.state(t, uint8(events.CloseWait))
	must(t, unix.Close(a.fd))
	b.state(t, uint8(events.Close)) // TIME_WAIT has another socket
	must(t, unix.Close(b.fd))
	s.want(events.ClosedTimeWait, a.local.Port(), "", "321 B unread were thrown away without a RST")
}

// writeInCloseWait: the application writes after the EOF.
func (s *stage) writeInCloseWait(t testing.TB) {
	a, b := newPair(t, loopback4)
	must(t, unix.Close(b.fd))
	a.state(t, uint8(events.CloseWait))
	time.Sleep(200 * time.Millisecond) // longer than an ACK is delayed
	a.send(t, 15)
	a.state(t, uint8(events.Close))
	if n, err := unix.Read(a.fd, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("recv(2) returned %d, %v, want 0", n, err)
	}
	must(t, unix.Close(a.fd))
	s.want(events.RecvRST, a.local.Port(), "", "in CLOSE_WAIT; recv(2) returns 0, only a write fails (EPIPE)")
}

// -p shows what happens to a process: the RST that it receives, and its own close.
func TestPidOfVictim(t *testing.T) { attempts(t, pidOfVictim) }

func pidOfVictim(t testing.TB) {
	inNetns(t, func(uint32) {
		d, err := newListener(loopback4)
		must(t, err)
		defer unix.Close(d.fd)
		victim := beginChild(t, "reset", "127.0.1.1", d.addr.String(), "1")
		fd, _, err := unix.Accept4(d.fd, unix.SOCK_CLOEXEC)
		must(t, err)
		victim.awaitReady(t, "reset")
		r := launch(t, "-o", "json", "-p", itoa(victim.Process.Pid))
		lines := r.collect()
		conn{fd: fd}.linger(t, 0)
		must(t, unix.Close(fd))
		must(t, victim.Wait())
		r.interrupt(t)
		seen := <-lines
		if len(seen) != 2 || seen[0].Path != string(events.RecvRST) || seen[1].Path != string(events.ClosedReset) ||
			int(seen[0].Owner.PID) != victim.Process.Pid || int(seen[0].Peer.Actor.PID) != os.Getpid() ||
			int(seen[1].Actor.PID) != victim.Process.Pid {
			t.Errorf("of process %d, reset by %d: %+v", victim.Process.Pid, os.Getpid(), seen)
		}
	})
}

// newPair returns both ends of a new connection to a listener at an address. The
// client uses IPv4 if the address is the unspecified one of IPv6.
func newPair(t testing.TB, addr netip.Addr) (a, b conn) {
	t.Helper()
	l, at := listen(t, addr)
	defer unix.Close(l)
	if addr.IsUnspecified() {
		at = netip.AddrPortFrom(loopback4, at.Port())
	}
	return connect(t, l, at)
}

// Like TestFieldCases, with a firewall, which loses segments on purpose.
func TestFieldCasesFirewall(t *testing.T) {
	needsFirewall(t)
	onStage(t, func(t testing.TB, s *stage) {
		s.lossy = true
		s.do(t, func() error {
			s.refusedByICMP(t)
			s.connectGivenUp(t)
			s.resetInsideClose(t)
			s.resetByFirewall(t)
			return nil
		})
	})
}

// needsFirewall skips the test if this kernel has no nftables. It makes the kernel
// load its modules before it is traced.
func needsFirewall(t *testing.T) {
	t.Helper()
	var err error
	inNetns(t, func(uint32) { err = lab.Rule{Hook: "input", Action: "reset", Port: 1}.Add() })
	if err != nil {
		t.Skipf("this kernel cannot reject a segment: %v", err)
	}
}

// startConnect starts to connect to a port of lo, without blocking.
func startConnect(t testing.TB, port uint16) int {
	t.Helper()
	fd := socket(t, loopback4)
	must(t, unix.SetNonblock(fd, true))
	if err := unix.Connect(fd, sockaddr(netip.AddrPortFrom(loopback4, port))); err != unix.EINPROGRESS {
		t.Errorf("connect(2) does not block: %v", err)
	}
	return fd
}

// refusedByICMP: a service without endpoints, and a connect(2) that does not block.
func (s *stage) refusedByICMP(t testing.TB) {
	const port = 6002
	must(t, lab.Rule{Hook: "output", Action: "refuse", Port: port}.Add())
	fd := startConnect(t, port)
	time.Sleep(20 * time.Millisecond)
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || n != int(unix.ECONNREFUSED) {
		t.Errorf("SO_ERROR: %d, %v", n, err)
	}
	must(t, unix.Close(fd))
	s.want(events.RecvICMP, port, "", "ICMP port unreachable: ECONNREFUSED; the application gave up")
}

// connectGivenUp: SYNs are dropped, and the application closes.
func (s *stage) connectGivenUp(t testing.TB) {
	const port = 6003
	must(t, lab.Rule{Hook: "output", Action: "drop", Port: port}.Add())
	fd := startConnect(t, port)
	time.Sleep(1500 * time.Millisecond) // what the line says
	must(t, unix.Close(fd))
	s.want(events.CloseSilentSynSent, port, "", "given up 1.",
		" s after the first SYN, 2 SYNs unanswered; neither FIN nor RST")
}

// resetInsideClose: the peer is gone, and its RST comes while close(2) sends.
func (s *stage) resetInsideClose(t testing.TB) {
	a, b := newPair(t, loopback4)
	must(t, lab.Rule{Hook: "output", Action: "drop", From: true, Port: b.local.Port()}.Add())
	b.linger(t, 0)
	must(t, unix.Close(b.fd))
	must(t, lab.RemoveRules())
	must(t, unix.SetsockoptInt(a.fd, unix.IPPROTO_TCP, unix.TCP_CORK, 1))
	a.send(t, 500)
	must(t, unix.Close(a.fd))
	s.want(events.CloseFINActive, a.local.Port(), "", "ESTABLISHED → FIN_WAIT1")
	s.want(events.RecvRST, a.local.Port(), "", "in FIN_WAIT1, ",
		"no application learns of it; 500 B that it believes sent are lost")
}

// resetByFirewall: netfilter sends the RST, and the other end knows nothing of it.
func (s *stage) resetByFirewall(t testing.TB) {
	a, b := newPair(t, loopback4)
	must(t, lab.Rule{Hook: "input", Action: "reset", Port: b.local.Port()}.Add())
	a.send(t, 5)
	a.state(t, uint8(events.Close))
	b.state(t, uint8(events.Established))
	var words []string
	if !s.tracer.blindToNetfilter() {
		s.want(events.ReplyNetfilter, b.local.Port(), "", "netfilter's REJECT in INPUT rejects 5 B")
		words = []string{fmt.Sprintf("sent by netfilter's REJECT in INPUT of network namespace %d", s.inode)}
	}
	s.want(events.RecvRST, a.local.Port(), "", append(words, "ECONNRESET")...)
	must(t, unix.Close(a.fd))
	must(t, unix.Close(b.fd))
}
