//go:build linux

package live

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// boundSocket is a socket that is bound to a port, listening or not.
type boundSocket struct {
	fd   int
	addr netip.AddrPort
}

// newListener listens on a free port.
func newListener(addr netip.Addr) (d boundSocket, err error) {
	if d, err = newClosedPort(addr); err != nil {
		return d, err
	}
	if err = unix.Listen(d.fd, 128); err != nil {
		unix.Close(d.fd)
	}
	return d, err
}

// newClosedPort binds a free port without listening on it, so that no other
// process can. ::1 exists only a moment after the device came up.
func newClosedPort(addr netip.Addr) (d boundSocket, err error) {
	if d.fd, err = tcpSocket(addr); err != nil {
		return d, err
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		err = unix.Bind(d.fd, sockaddr(netip.AddrPortFrom(addr, 0)))
		if err != unix.EADDRNOTAVAIL || time.Now().After(end) {
			break
		}
	}
	if err == nil {
		d.addr, err = localAddress(d.fd)
	}
	if err != nil {
		unix.Close(d.fd)
	}
	return d, err
}

// connect connects to the port, from a port if one is given and free. fd is
// negative if that failed, which may happen with random ports.
func (d boundSocket) connect(port uint16) (fd int, addr netip.AddrPort) {
	fd, err := tcpSocket(d.addr.Addr())
	if err != nil {
		return -1, addr
	}
	if port != 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		_ = unix.Bind(fd, sockaddr(netip.AddrPortFrom(d.addr.Addr(), port)))
	}
	// A SYN may meet an earlier connection that is not quite over.
	bound := unix.NsecToTimeval(int64(500 * time.Millisecond))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &bound)
	if err = unix.Connect(fd, sockaddr(d.addr)); err == nil {
		addr, err = localAddress(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, addr
	}
	return fd, addr
}

// accept returns the other end of the connection from an address. It closes those
// whose connect failed.
func (d boundSocket) accept(from netip.AddrPort) (int, error) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 1000); n == 0 || err == unix.EINTR {
			continue
		}
		fd, sa, err := unix.Accept4(d.fd, unix.SOCK_CLOEXEC)
		if err != nil {
			return -1, err
		}
		if addressOf(sa) == from {
			return fd, nil
		}
		unix.Close(fd)
	}
	return -1, fmt.Errorf("no connection from %v came to %v", from, d.addr)
}

func tcpSocket(addr netip.Addr) (int, error) {
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
}

func localAddress(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	return addressOf(sa), err
}

func addressOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
