//go:build linux

package live

import (
	"math/rand/v2"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// end is one end of a connection that an application uses at random. Calls may
// fail, and no error is checked.
type end struct {
	fd  int // -1 once closed
	rng *rand.Rand
}

// randomCalls lists what an application does with a connection, each with its
// weight.
var randomCalls = []struct {
	weight int
	do     func(*end)
}{
	{12, func(e *end) { e.send(1 + e.rng.IntN(3000)) }},
	{3, func(e *end) { e.send(1 + e.rng.IntN(300_000)) }},
	{2, (*end).fill},
	{10, func(e *end) { e.recv(1 + e.rng.IntN(4000)) }},
	{6, (*end).drain},
	{2, func(e *end) { e.shutdown(unix.SHUT_RD) }},
	{4, func(e *end) { e.shutdown(unix.SHUT_WR) }},
	{2, func(e *end) { e.shutdown(unix.SHUT_RDWR) }},
	{1, func(e *end) { e.linger(unix.Linger{}) }},
	{2, func(e *end) { e.linger(unix.Linger{Onoff: 1}) }},
	{1, func(e *end) { e.linger(unix.Linger{Onoff: 1, Linger: 1}) }},
	{2, func(e *end) { e.option(unix.TCP_LINGER2, -1) }},
	{2, func(e *end) { e.option(unix.TCP_CORK, e.rng.IntN(2)) }},
	{1, func(e *end) { e.option(unix.TCP_NODELAY, 1) }},
	{3, func(e *end) { time.Sleep(time.Duration(e.rng.IntN(3000)) * time.Microsecond) }}, // an application that computes
	{1, (*end).disconnect},
	{3, (*end).close},
}

// step does one of randomCalls.
func (e *end) step() {
	total := 0
	for _, h := range randomCalls {
		total += h.weight
	}
	n := e.rng.IntN(total)
	for _, h := range randomCalls {
		if n -= h.weight; n < 0 {
			if e.fd >= 0 {
				h.do(e)
			}
			return
		}
	}
}

var zeros = make([]byte, 1<<20)

func (e *end) send(n int) bool {
	sent, err := unix.SendmsgN(e.fd, zeros[:n], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return err == nil && sent == n
}

// fill sends until the peer's window or the send buffer is full.
func (e *end) fill() {
	for range 16 {
		if !e.send(256 << 10) {
			return
		}
	}
}

func (e *end) recv(n int) bool {
	got, _, err := unix.Recvfrom(e.fd, make([]byte, n), unix.MSG_DONTWAIT)
	return err == nil && got > 0
}

// drain receives what is in the receive queue.
func (e *end) drain() {
	for range 64 {
		if !e.recv(1 << 20) {
			return
		}
	}
}

func (e *end) shutdown(how int)    { _ = unix.Shutdown(e.fd, how) }
func (e *end) option(name, to int) { _ = unix.SetsockoptInt(e.fd, unix.IPPROTO_TCP, name, to) }
func (e *end) linger(l unix.Linger) {
	_ = unix.SetsockoptLinger(e.fd, unix.SOL_SOCKET, unix.SO_LINGER, &l)
}

// disconnect calls connect(AF_UNSPEC), for which package unix has no wrapper.
func (e *end) disconnect() {
	sa := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, _ = unix.Syscall(unix.SYS_CONNECT, uintptr(e.fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
}

func (e *end) close() {
	if e.fd >= 0 {
		unix.Close(e.fd)
		e.fd = -1
	}
}
