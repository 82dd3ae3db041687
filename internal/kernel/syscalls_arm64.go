package kernel

var archSyscalls = byNumber{}

// compatSyscalls is the 32-bit ARM table: arch/arm/tools/syscall.tbl.
var compatSyscalls = byNumber{
	1: "exit", 3: "read", 4: "write", 6: "close", 11: "execve", 63: "dup2",
	248: "exit_group", 283: "connect", 292: "recvfrom", 293: "shutdown",
	297: "recvmsg", 358: "dup3", 387: "execveat", 426: "io_uring_enter",
	436: "close_range",
}
