//go:build linux

package live

import (
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// conn is a socket by its descriptor. Package net would close it at other times
// and keep it in its poller.
type conn struct {
	fd            int
	local, remote netip.AddrPort
}

var loopback4 = netip.MustParseAddr("127.0.0.1")
var loopback6 = netip.MustParseAddr("::1")

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func addrPort(t testing.TB, sa unix.Sockaddr, err error) netip.AddrPort {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	t.Fatalf("socket address %T", sa)
	return netip.AddrPort{}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func socket(t testing.TB, addr netip.Addr) int {
	t.Helper()
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	must(t, err)
	return fd
}

func listen(t testing.TB, addr netip.Addr) (fd int, address netip.AddrPort) {
	t.Helper()
	fd = socket(t, addr)
	must(t, unix.Bind(fd, sockaddr(netip.AddrPortFrom(addr, 0))))
	must(t, unix.Listen(fd, 128))
	sa, err := unix.Getsockname(fd)
	return fd, addrPort(t, sa, err)
}

// connect returns both ends of a new connection: the one that connected, and the
// accepted one.
func connect(t testing.TB, listener int, addr netip.AddrPort) (a, b conn) {
	t.Helper()
	a.fd = socket(t, addr.Addr())
	must(t, unix.Connect(a.fd, sockaddr(addr)))
	sa, err := unix.Getsockname(a.fd)
	a.local, a.remote = addrPort(t, sa, err), addr
	b.fd, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
	must(t, err)
	b.local, b.remote = a.remote, a.local
	return a, b
}

func (c conn) linger(t testing.TB, seconds int32) {
	t.Helper()
	must(t, unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: seconds}))
}

func (c conn) send(t testing.TB, n int) {
	t.Helper()
	sent, err := unix.Write(c.fd, make([]byte, n))
	must(t, err)
	if sent != n {
		t.Fatalf("sent %d of %d bytes", sent, n)
	}
}

func (c conn) recv(t testing.TB, n int) {
	t.Helper()
	if got, _, err := unix.Recvfrom(c.fd, make([]byte, n), unix.MSG_WAITALL); err != nil || got != n {
		t.Fatalf("received %d of %d bytes: %v", got, n, err)
	}
}

// queued waits until n bytes can be read.
func (c conn) queued(t testing.TB, n int) {
	t.Helper()
	eventually(t, "bytes in the receive queue", func() bool {
		got, err := unix.IoctlGetInt(c.fd, unix.SIOCINQ)
		return err == nil && got == n
	})
}

// state waits until the socket is in a state of include/net/tcp_states.h.
func (c conn) state(t testing.TB, want uint8) {
	t.Helper()
	eventually(t, "TCP state", func() bool {
		info, err := unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err == nil && info.State == want
	})
}

// disconnect calls connect(2) with AF_UNSPEC.
func (c conn) disconnect(t testing.TB) {
	t.Helper()
	var unspec unix.RawSockaddrAny // AF_UNSPEC is 0
	size := unsafe.Sizeof(unspec.Addr)
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(c.fd), uintptr(unsafe.Pointer(&unspec)), size)
	if errno != 0 {
		t.Fatal(errno)
	}
}
