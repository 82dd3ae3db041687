//go:build linux

package main

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A mix is what is done to a connection. Both its ends are here, so that there are two closes per connection.
const (
	mixFIN     = "fin"     // the client closes, then the server
	mixLinger0 = "linger0" // the client resets, by SO_LINGER {1,0}; the server closes what was reset
	mixUnread  = "unread"  // the server closes with 100 bytes unread, which resets; the client closes what was reset
	mixBare    = "bare"    // a socket is closed that was never connected; one close
	mixThreads = "threads" // several threads do the first three in turn, each yielding between the calls
)

// threads of mixThreads. On the one CPU that counts instructions they run in turn, and their calls interleave.
const threads = 4

// closesOf returns the number of closes per connection.
func closesOf(mix string) int {
	if mix == mixBare {
		return 1
	}
	return 2
}

// load opens and closes connections, one after the other. It makes system calls without the Go runtime, so that its
// own cost is the same each time.
type load struct {
	listener int
	address  unix.RawSockaddrInet4
	data     [100]byte
	yields   bool    // between calls, to other threads
	threads  []*load // of mixThreads
}

// newLoad returns a load and those of its threads.
func newLoad() (*load, error) {
	runtime.GOMAXPROCS(1 + threads) // a raw system call blocks other goroutines of its P
	const port = 7777
	l, err := listen(port)
	for n := uint16(1); n <= threads && err == nil; n++ {
		var thread *load
		thread, err = listen(port + n)
		l.threads = append(l.threads, thread)
	}
	return l, err
}

func listen(port uint16) (*load, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	l := &load{listener: fd}
	l.address = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: [4]byte{127, 0, 0, 1}}
	l.address.Port = port>>8 | port&0xff<<8 // in network order, on a machine of the other
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: l.address.Addr}); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	return l, unix.Listen(fd, 16)
}

// run makes n connections.
func (l *load) run(mix string, n int) error {
	if mix == mixThreads {
		return l.runThreads(n)
	}
	for range n {
		if err := l.one(mix); err != nil {
			return fmt.Errorf("load %s: %w", mix, err)
		}
	}
	return nil
}

// refuse makes a connection that is refused. closetrace then reads the names of the kernel's functions, which it does
// once: 200 million instructions.
func (l *load) refuse() error {
	const closed = 7 // port
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: closed, Addr: l.address.Addr})
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("a connection to a closed port: %w", err)
	}
	return nil
}

// runThreads makes n connections on all threads.
func (l *load) runThreads(n int) error {
	var all errgroup.Group
	for i, t := range l.threads {
		all.Go(func() error {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			t.yields = true
			for k := range share(n, i) {
				mix := [...]string{mixFIN, mixLinger0, mixUnread}[(k+i)%3]
				if err := t.run(mix, 1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all.Wait()
}

// share returns how many of n connections a thread makes.
func share(n, thread int) int { return (n + thread) / threads }

func (l *load) one(mix string) error {
	var c calls
	client := c.call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if mix == mixBare {
		c.call(unix.SYS_CLOSE, client, 0, 0)
		return c.err()
	}
	c.call(unix.SYS_CONNECT, client, uintptr(unsafe.Pointer(&l.address)), unsafe.Sizeof(l.address))
	server := c.call(unix.SYS_ACCEPT, uintptr(l.listener), 0, 0)
	first, second := client, server
	switch mix {
	case mixLinger0:
		linger := unix.Linger{Onoff: 1}
		c.setsockopt(client, unix.SO_LINGER, unsafe.Pointer(&linger), unsafe.Sizeof(linger))
	case mixUnread:
		c.call(unix.SYS_WRITE, client, uintptr(unsafe.Pointer(&l.data)), unsafe.Sizeof(l.data))
		first, second = server, client
	}
	l.yield(&c)
	c.call(unix.SYS_CLOSE, first, 0, 0)
	l.yield(&c)
	c.call(unix.SYS_CLOSE, second, 0, 0)
	return c.err()
}

func (l *load) yield(c *calls) {
	if l.yields {
		c.call(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
}

// calls keeps the first error of several system calls.
type calls struct{ errno unix.Errno }

func (c *calls) call(number, a, b, d uintptr) uintptr {
	r, _, errno := unix.RawSyscall(number, a, b, d)
	c.note(errno)
	return r
}

func (c *calls) setsockopt(fd uintptr, option int, value unsafe.Pointer, size uintptr) {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.SOL_SOCKET, uintptr(option), uintptr(value), size, 0)
	c.note(errno)
}

func (c *calls) note(errno unix.Errno) {
	if c.errno == 0 {
		c.errno = errno
	}
}

func (c *calls) err() error {
	if c.errno == 0 {
		return nil
	}
	return c.errno
}
