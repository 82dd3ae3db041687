//go:build linux

package live

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// door is a socket at a port, listening or not.
type door struct {
	fd int
	at netip.AddrPort
}

// openDoor listens at any port.
func openDoor(addr netip.Addr) (d door, err error) {
	if d, err = shutDoor(addr); err != nil {
		return d, err
	}
	if err = unix.Listen(d.fd, 128); err != nil {
		unix.Close(d.fd)
	}
	return d, err
}

// shutDoor takes any port and does not listen at it, nor can anybody else. ::1 is
// there only a moment after the device came up.
func shutDoor(addr netip.Addr) (d door, err error) {
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
		d.at, err = localAddress(d.fd)
	}
	if err != nil {
		unix.Close(d.fd)
	}
	return d, err
}

// connect goes through the door, from a port if it is given and free. fd is
// negative if that failed, as is to be expected at random.
func (d door) connect(port uint16) (fd int, at netip.AddrPort) {
	fd, err := tcpSocket(d.at.Addr())
	if err != nil {
		return -1, at
	}
	if port != 0 {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		_ = unix.Bind(fd, sockaddr(netip.AddrPortFrom(d.at.Addr(), port)))
	}
	// A SYN may meet an earlier connection that is not quite over.
	bound := unix.NsecToTimeval(int64(500 * time.Millisecond))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &bound)
	if err = unix.Connect(fd, sockaddr(d.at)); err == nil {
		at, err = localAddress(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, at
	}
	return fd, at
}

// accept returns the other end of the connection from an address, and ends
// those of connects that were given up.
func (d door) accept(from netip.AddrPort) (int, error) {
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
	return -1, fmt.Errorf("no connection from %v came to %v", from, d.at)
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
