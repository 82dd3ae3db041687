//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a descriptor with a name. Several names may have descriptors of one
// socket.
type socket struct {
	name string
	// fd is -1 once this process has closed its descriptor. It is atomic
	// because a thread may close it while another is blocked in it.
	fd atomic.Int64
}

// open opens a socket of the scenario's family and names it. The protocol is TCP
// or MPTCP.
func (r *sandbox) open(name string, protocol int) (*socket, error) {
	domain := unix.AF_INET6
	if r.sc.Family == IPv4 {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, err
	}
	if domain == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	return r.adopt(name, fd)
}

// adopt names a descriptor and stores its addresses.
func (r *sandbox) adopt(name string, fd int) (*socket, error) {
	if r.sockets[name] != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("a second socket %s", name)
	}
	s := &socket{name: name}
	s.fd.Store(int64(fd))
	r.sockets[name] = s
	r.note(s)
	return s, nil
}

// note stores a socket's addresses in the result. It does not replace a known
// address by none, because the kernel clears addresses when a connection fails.
func (r *sandbox) note(s *socket) {
	fd := int(s.fd.Load())
	ep := r.res.Sockets[s.name]
	if sa, err := unix.Getsockname(fd); err == nil && addrPort(sa).Port() != 0 {
		ep.Local = addrPort(sa)
	}
	if sa, err := unix.Getpeername(fd); err == nil {
		ep.Remote = addrPort(sa)
	}
	r.res.Sockets[s.name] = ep.unmap()
}

// address returns the scenario's loopback address with a port.
func (r *sandbox) address(port uint16) unix.Sockaddr {
	switch r.sc.Family {
	case IPv6:
		return &unix.SockaddrInet6{Port: int(port), Addr: [16]byte{15: 1}}
	case V4Mapped:
		return &unix.SockaddrInet6{Port: int(port), Addr: [16]byte{10: 0xff, 0xff, 127, 0, 0, 1}}
	}
	return &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// use returns the descriptor, or an error if this process has closed it.
func (s *socket) use() (int, error) {
	fd := int(s.fd.Load())
	if fd < 0 {
		return fd, fmt.Errorf("this process has closed %s", s.name)
	}
	return fd, nil
}

// close calls close(2), once.
func (s *socket) close() error {
	fd := s.fd.Swap(-1)
	if fd < 0 {
		return fmt.Errorf("%s is already closed", s.name)
	}
	return unix.Close(int(fd))
}

// abandon closes a socket that a run left open, without waiting, and wakes any
// thread that is blocked in it.
func (s *socket) abandon() {
	fd := int(s.fd.Swap(-1))
	if fd < 0 {
		return
	}
	// The first two fail in some states. Only close matters.
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	_ = unix.Close(fd)
}

// poll waits until one of the events, an error or a hang-up occurs.
func (r *sandbox) poll(fd int, events int16) error {
	deadline := time.Now().Add(stepTimeout)
	for {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(fds, 100) // ms: how often to look for cancellation
		switch {
		case err != nil && err != unix.EINTR:
			return err
		case n > 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("no event for %v", stepTimeout)
		}
	}
}

// connect connects a socket and stores the addresses of both sides.
func (r *sandbox) connect(s *socket, port uint16, nonblock bool, fastopen string) error {
	fd, err := s.use()
	if err != nil {
		return err
	}
	// SO_SNDTIMEO also bounds a blocking connect(2).
	tv := unix.NsecToTimeval(stepTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err != nil {
		return err
	}
	if nonblock {
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
	}
	if fastopen != "" {
		err = unix.Sendto(fd, []byte(fastopen), unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL, r.address(port))
	} else {
		err = uninterrupted(func() error { return unix.Connect(fd, r.address(port)) })
	}
	if nonblock && err == unix.EINPROGRESS {
		err = nil
	}
	ep := r.res.Sockets[s.name]
	ep.Remote = addrPort(r.address(port))
	r.res.Sockets[s.name] = ep
	r.note(s)
	r.res.Sockets[s.name+".peer"] = r.res.Sockets[s.name].swap()
	return err
}

// uninterrupted repeats a system call that a signal ended: the Go runtime sends
// signals, and on a socket with a timeout the kernel does not restart the call. A
// repeated connect(2) continues to wait.
func uninterrupted(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
