//go:build linux

package lab

import "golang.org/x/sys/unix"

// A socket filter runs for each segment that reaches the socket, and sees it from
// the TCP header on. It returns how many bytes to keep: 0 drops the segment
// silently, as if the network had lost it.

// dropAll drops every segment.
var dropAll = []unix.SockFilter{
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

// dropSYN drops every SYN.
var dropSYN = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13}, // flags
	{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: 2, Jt: 1, Jf: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

// dropEmpty drops every segment without payload.
var dropEmpty = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 12}, // data offset, in the upper 4 bits
	{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 4},
	{Code: unix.BPF_ALU | unix.BPF_LSH | unix.BPF_K, K: 2}, // in bytes
	{Code: unix.BPF_MISC | unix.BPF_TAX},
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
	{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_X, Jt: 0, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

// dropPayload drops the segments whose payload begins with this byte.
func dropPayload(first byte) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 12}, // data offset, in the upper 4 bits
		{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 4},
		{Code: unix.BPF_ALU | unix.BPF_LSH | unix.BPF_K, K: 2}, // in bytes
		{Code: unix.BPF_MISC | unix.BPF_TAX},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_X, Jt: 0, Jf: 2}, // no payload: keep
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_IND, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(first), Jt: 1, Jf: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}

func attachFilter(fd int, program []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
}

func detachFilter(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
}
