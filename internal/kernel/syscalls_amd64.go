package kernel

import "golang.org/x/sys/unix"

var archSyscalls = byNumber{
	unix.SYS_DUP2:       "dup2",
	unix.SYS_EPOLL_WAIT: "epoll_wait",
	unix.SYS_POLL:       "poll",
	unix.SYS_SELECT:     "select",
}

// compatSyscalls is the i386 table: arch/x86/entry/syscalls/syscall_32.tbl.
var compatSyscalls = byNumber{
	1: "exit", 3: "read", 4: "write", 6: "close", 11: "execve", 63: "dup2",
	102: "socketcall", 252: "exit_group", 330: "dup3", 358: "execveat",
	362: "connect", 371: "recvfrom", 372: "recvmsg", 373: "shutdown",
	426: "io_uring_enter", 436: "close_range",
}
