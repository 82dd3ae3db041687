//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/io_uring.h.
const (
	ioUringClose    = 19 // IORING_OP_CLOSE, Linux 5.6
	ioUringShutdown = 34 // IORING_OP_SHUTDOWN, Linux 5.11

	ioUringSQRing  = 0          // IORING_OFF_SQ_RING; the completions are in the same mapping
	ioUringEntries = 0x10000000 // IORING_OFF_SQES

	ioUringSingleMap = 1 << 0 // IORING_FEAT_SINGLE_MMAP, Linux 5.4
	ioUringGetEvents = 1 << 0 // IORING_ENTER_GETEVENTS

	ioUringEntrySize      = 64 // struct io_uring_sqe
	ioUringCompletionSize = 16 // struct io_uring_cqe
)

// ioUringParams is struct io_uring_params. The offsets are into the mapping.
type ioUringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32

	sq struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		userAddr                                            uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		userAddr                                            uint64
	}
}

// ioUringSetup creates a ring for one request.
func ioUringSetup() (fd int, p ioUringParams, err error) {
	n, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return -1, p, errno
	}
	unix.CloseOnExec(int(n))
	if p.features&ioUringSingleMap == 0 {
		unix.Close(int(n))
		return -1, p, fmt.Errorf("this kernel's io_uring is older than 5.4")
	}
	return int(n), p, nil
}

// ioUring submits one request for a descriptor through a new ring and waits for
// its completion. length is the argument of the request: for shutdown, how.
func ioUring(opcode byte, fd int, length uint32) error {
	ring, p, err := ioUringSetup()
	if err != nil {
		return err
	}
	defer unix.Close(ring)
	size := max(p.sq.array+4*p.sqEntries, p.cq.cqes+ioUringCompletionSize*p.cqEntries)
	rings, err := unix.Mmap(ring, ioUringSQRing, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(rings) }()
	entry, err := unix.Mmap(ring, ioUringEntries, ioUringEntrySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(entry) }()

	entry[0] = opcode
	binary.NativeEndian.PutUint32(entry[4:], uint32(fd))
	binary.NativeEndian.PutUint32(entry[24:], length)
	binary.NativeEndian.PutUint32(rings[p.sq.array:], 0) // the first entry
	binary.NativeEndian.PutUint32(rings[p.sq.tail:], 1)
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(ring), 1, 1, ioUringGetEvents, 0, 0)
	if errno != 0 {
		return errno
	}
	if done := binary.NativeEndian.Uint32(rings[p.cq.tail:]); done != 1 {
		return fmt.Errorf("io_uring completed %d requests", done)
	}
	if result := int32(binary.NativeEndian.Uint32(rings[p.cq.cqes+8:])); result < 0 {
		return unix.Errno(-result)
	}
	return nil
}

// doIOURing closes or shuts down through io_uring.
func doIOURing(_ *sandbox, s *socket, args []string) (string, error) {
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	switch args[0] {
	case "close":
		s.fd.Store(-1)
		return "", ioUring(ioUringClose, fd, 0)
	case "shutdown-wr":
		return "", ioUring(ioUringShutdown, fd, unix.SHUT_WR)
	}
	return "", fmt.Errorf("want io-uring close or io-uring shutdown-wr")
}
