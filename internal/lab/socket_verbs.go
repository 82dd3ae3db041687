//go:build linux

package lab

import (
	"bytes"
	"fmt"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// doBind reserves a port without listening on it: any, or that of A.
func doBind(r *sandbox, s *socket, args []string) (string, error) {
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	port := uint16(0)
	if len(args) > 0 {
		port = r.res.Sockets[args[0]].Local.Port()
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return "", err
		}
	}
	err = unix.Bind(fd, r.address(port))
	r.note(s)
	return "", err
}

// doBacklog changes the maximum length of a listener's accept queue.
func doBacklog(_ *sandbox, s *socket, args []string) (string, error) {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return "", err
	}
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	return "", unix.Listen(fd, n)
}

// doDisconnect calls connect(2) with AF_UNSPEC.
func doDisconnect(_ *sandbox, s *socket, _ []string) (string, error) {
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	var unspec unix.RawSockaddrAny // AF_UNSPEC is 0
	_, _, errno := unix.Syscall(
		unix.SYS_CONNECT,
		uintptr(fd),
		uintptr(unsafe.Pointer(&unspec)),
		unsafe.Sizeof(unspec.Addr),
	)
	if errno != 0 {
		return "", errno
	}
	return "", nil
}

// doKeepalive enables keepalive: after IDLE seconds without a segment the kernel
// sends COUNT probes, INTERVAL seconds apart.
func doKeepalive(r *sandbox, s *socket, args []string) (string, error) {
	for i, name := range []int{unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT} {
		if _, err := option(unix.IPPROTO_TCP, name)(r, s, args[i:i+1]); err != nil {
			return "", err
		}
	}
	return enable(unix.SOL_SOCKET, unix.SO_KEEPALIVE)(r, s, nil)
}

func doSend(r *sandbox, s *socket, args []string) (string, error) {
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 0 || n > 1<<24 {
		return "", fmt.Errorf("%q is not a number of bytes", args[0])
	}
	return r.send(s, bytes.Repeat([]byte{'a'}, n))
}

func doSendText(r *sandbox, s *socket, args []string) (string, error) {
	return r.send(s, []byte(args[0]))
}

// send sends all of data. The outcome is the number of bytes.
func (r *sandbox) send(s *socket, data []byte) (string, error) {
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	for rest := data; len(rest) > 0; {
		n, err := unix.SendmsgN(fd, rest, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch err {
		case nil:
			rest = rest[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			if err := r.poll(fd, unix.POLLOUT); err != nil {
				return "", err
			}
		default:
			return "", err
		}
	}
	return strconv.Itoa(len(data)), nil
}

// doFill sends until the send buffer is full. With "window" it continues until
// the peer's window is closed as well.
func doFill(_ *sandbox, s *socket, args []string) (string, error) {
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	stalled := 0 // ms to wait for the peer to open its window
	if len(args) > 0 && args[0] == "window" {
		stalled = 150
	}
	block := make([]byte, 16<<10)
	for total := 0; ; {
		n, err := unix.SendmsgN(fd, block, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch err {
		case nil:
			total += n
		case unix.EINTR:
		case unix.EAGAIN:
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			if n, _ := unix.Poll(fds, stalled); n == 0 || stalled == 0 {
				return strconv.Itoa(total), nil
			}
		default:
			return "", err
		}
	}
}

// doUrgent sends one byte of urgent data.
func doUrgent(_ *sandbox, s *socket, _ []string) (string, error) {
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	_, err = unix.SendmsgN(fd, []byte{'!'}, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_OOB)
	return "", err
}

// doRecv waits for data and reads it: N bytes, or without N whatever one call
// returns. The outcome is the number of bytes, or EOF.
func doRecv(r *sandbox, s *socket, args []string) (string, error) {
	if len(args) == 0 {
		return r.recv(s, make([]byte, 64<<10), unix.POLLIN, 0)
	}
	want, err := strconv.Atoi(args[0])
	if err != nil || want < 1 || want > 1<<24 {
		return "", fmt.Errorf("%q is not a number of bytes", args[0])
	}
	for rest := want; rest > 0; {
		outcome, err := r.recv(s, make([]byte, rest), unix.POLLIN, 0)
		if err != nil || outcome == "EOF" {
			return outcome, err
		}
		n, err := strconv.Atoi(outcome)
		if err != nil {
			return "", err
		}
		rest -= n
	}
	return args[0], nil
}

// recv waits for events and calls recv(2) once.
func (r *sandbox) recv(s *socket, buf []byte, events int16, flags int) (string, error) {
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	for {
		if err := r.poll(fd, events); err != nil {
			return "", err
		}
		n, _, err := unix.Recvfrom(fd, buf, flags|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case err != nil:
			return "", err
		case n == 0:
			return "EOF", nil
		default:
			return strconv.Itoa(n), nil
		}
	}
}

// doRecvBlock calls a blocking recv(2) of up to N bytes, for threads.
func doRecvBlock(_ *sandbox, s *socket, args []string) (string, error) {
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 || n > 1<<24 {
		return "", fmt.Errorf("%q is not a number of bytes", args[0])
	}
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	tv := unix.NsecToTimeval(stepTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return "", err
	}
	n, _, err = unix.Recvfrom(fd, make([]byte, n), 0)
	if err == nil && n == 0 {
		return "EOF", nil
	}
	return strconv.Itoa(n), err
}

// doRecvUrgent reads the byte of urgent data. It stays in the receive queue.
func doRecvUrgent(r *sandbox, s *socket, _ []string) (string, error) {
	return r.recv(s, make([]byte, 1), unix.POLLPRI, unix.MSG_OOB)
}

func doPeek(r *sandbox, s *socket, args []string) (string, error) {
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 || n > 1<<24 {
		return "", fmt.Errorf("%q is not a number of bytes", args[0])
	}
	return r.recv(s, make([]byte, n), unix.POLLIN, unix.MSG_PEEK)
}

// doUnread waits until N bytes are received and not read. SIOCINQ stops before
// urgent data, so the receive queue in /proc/net/tcp counts as well.
func doUnread(r *sandbox, s *socket, args []string) (string, error) {
	return "", r.until(args[0], func() (string, error) {
		fd, err := s.use()
		if err != nil {
			return "", err
		}
		n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
		if err != nil || strconv.Itoa(n) == args[0] {
			return strconv.Itoa(n), err
		}
		e, _, err := r.find(s.name)
		return strconv.Itoa(e.rxQueue), err
	})
}

// doQueued waits until N connections are in a listener's accept queue, which is
// what tcpi_unacked means there.
func doQueued(r *sandbox, s *socket, args []string) (string, error) {
	return "", r.until(args[0], func() (string, error) {
		fd, err := s.use()
		if err != nil {
			return "", err
		}
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return "", err
		}
		return strconv.Itoa(int(info.Unacked)), nil
	})
}

// pendingError returns the socket's error and clears it, as SO_ERROR does.
func pendingError(fd int) error {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && n != 0 {
		return unix.Errno(n)
	}
	return err
}

// doConnected waits for the end of a connect with nonblock.
func doConnected(r *sandbox, s *socket, _ []string) (string, error) {
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	if err := r.poll(fd, unix.POLLOUT); err != nil {
		return "", err
	}
	return "", pendingError(fd)
}

// doError waits until an error is pending. The outcome is its name.
func doError(r *sandbox, s *socket, _ []string) (string, error) {
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	var found error
	err = r.until("an error", func() (string, error) {
		if found = pendingError(fd); found != nil {
			return "an error", nil
		}
		return "no error", nil
	})
	if err != nil {
		return "", err
	}
	return "", found
}

func doShutdown(_ *sandbox, s *socket, args []string) (string, error) {
	how, ok := map[string]int{"rd": unix.SHUT_RD, "wr": unix.SHUT_WR, "rdwr": unix.SHUT_RDWR}[args[0]]
	if !ok {
		return "", fmt.Errorf("want shutdown rd, wr or rdwr, not %q", args[0])
	}
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	return "", unix.Shutdown(fd, how)
}

func doClose(_ *sandbox, s *socket, _ []string) (string, error) { return "", s.close() }

// doDup2 replaces the socket's descriptor by another file.
func doDup2(_ *sandbox, s *socket, _ []string) (string, error) {
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	other, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(other)
	if err := unix.Dup3(other, fd, unix.O_CLOEXEC); err != nil {
		return "", err
	}
	return "", s.close() // the descriptor of /dev/null
}

// doCloseRange closes the descriptor with close_range(2), Linux 5.9.
func doCloseRange(_ *sandbox, s *socket, _ []string) (string, error) {
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	if err := unix.CloseRange(uint(fd), uint(fd), 0); err != nil {
		return "", err
	}
	s.fd.Store(-1)
	return "", nil
}

// doLinger sets SO_LINGER: on SECONDS, or off.
func doLinger(_ *sandbox, s *socket, args []string) (string, error) {
	var l unix.Linger
	switch {
	case args[0] == "on" && len(args) == 2:
		seconds, err := strconv.ParseInt(args[1], 10, 32)
		if err != nil {
			return "", err
		}
		l = unix.Linger{Onoff: 1, Linger: int32(seconds)}
	case args[0] != "off":
		return "", fmt.Errorf("want linger on SECONDS or linger off")
	}
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	return "", unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &l)
}

// option returns a verb that sets a socket option to a number.
func option(level, name int) func(*sandbox, *socket, []string) (string, error) {
	return func(_ *sandbox, s *socket, args []string) (string, error) {
		value, err := strconv.Atoi(args[0])
		if err != nil {
			return "", err
		}
		fd, err := s.use()
		if err != nil {
			return "", err
		}
		return "", unix.SetsockoptInt(fd, level, name, value)
	}
}

// enable returns a verb that enables a socket option.
func enable(level, name int) func(*sandbox, *socket, []string) (string, error) {
	set := option(level, name)
	return func(r *sandbox, s *socket, _ []string) (string, error) { return set(r, s, []string{"1"}) }
}

// doFilter drops segments for the socket: all, SYNs, those without payload, or
// those whose payload begins with a character.
func doFilter(_ *sandbox, s *socket, args []string) (string, error) {
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	switch {
	case args[0] == "drop":
		return "", attachFilter(fd, dropAll)
	case args[0] == "syn":
		return "", attachFilter(fd, dropSYN)
	case args[0] == "empty":
		return "", attachFilter(fd, dropEmpty)
	case args[0] == "payload" && len(args) == 2 && len(args[1]) == 1:
		return "", attachFilter(fd, dropPayload(args[1][0]))
	case args[0] == "off":
		return "", detachFilter(fd)
	}
	return "", fmt.Errorf("want filter drop, filter syn, filter empty, filter payload X, or filter off")
}

func doHelperClose(r *sandbox, h *helper, args []string) (string, error) {
	return "", r.command(h, "close "+args[0])
}

func doHelperExit(_ *sandbox, h *helper, args []string) (string, error) {
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return "", err
	}
	return "", h.exit(code)
}

func doHelperKill(_ *sandbox, h *helper, _ []string) (string, error) { return "", h.kill() }

// doHelperExec makes the helper execute itself again, which closes its sockets.
func doHelperExec(r *sandbox, h *helper, _ []string) (string, error) {
	return "", r.command(h, "exec-cloexec")
}
