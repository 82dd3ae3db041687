package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// syscalls are the system calls, on every architecture, that may release the last reference to a socket.
// syscalls_ARCH.go has those that only some architectures have.
var syscalls = byNumber{
	unix.SYS_ACCEPT:         "accept",
	unix.SYS_ACCEPT4:        "accept4",
	unix.SYS_CLOSE:          "close",
	unix.SYS_CLOSE_RANGE:    "close_range",
	unix.SYS_CONNECT:        "connect",
	unix.SYS_DUP3:           "dup3",
	unix.SYS_EPOLL_PWAIT:    "epoll_pwait",
	unix.SYS_EXECVE:         "execve",
	unix.SYS_EXECVEAT:       "execveat",
	unix.SYS_EXIT:           "exit",
	unix.SYS_EXIT_GROUP:     "exit_group",
	unix.SYS_IO_URING_ENTER: "io_uring_enter",
	unix.SYS_MUNMAP:         "munmap",
	unix.SYS_PPOLL:          "ppoll",
	unix.SYS_PSELECT6:       "pselect6",
	unix.SYS_READ:           "read",
	unix.SYS_READV:          "readv",
	unix.SYS_RECVFROM:       "recvfrom",
	unix.SYS_RECVMMSG:       "recvmmsg",
	unix.SYS_RECVMSG:        "recvmsg",
	unix.SYS_SENDFILE:       "sendfile",
	unix.SYS_SENDMMSG:       "sendmmsg",
	unix.SYS_SENDMSG:        "sendmsg",
	unix.SYS_SENDTO:         "sendto",
	unix.SYS_SHUTDOWN:       "shutdown",
	unix.SYS_SPLICE:         "splice",
	unix.SYS_UNSHARE:        "unshare",
	unix.SYS_WRITE:          "write",
	unix.SYS_WRITEV:         "writev",
}

// byNumber is a table of names, with "" for holes.
type byNumber []string

func (b byNumber) name(number int32) string {
	if number < 0 || int(number) >= len(b) {
		return ""
	}
	return b[number]
}

// SyscallName returns the name of the system call with this number on this architecture, from the table of 32-bit
// programs if compat. It returns "" for -1, which is none, and syscall-N if the name is unknown.
func SyscallName(number int32, compat bool) string {
	if number == -1 {
		return ""
	}
	table := syscalls
	if compat {
		table = compatSyscalls
	}
	name := table.name(number)
	if name == "" && !compat {
		name = archSyscalls.name(number)
	}
	if name != "" {
		return name
	}
	return fmt.Sprintf("syscall-%d", number)
}
