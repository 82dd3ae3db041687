/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The wire record: all that the kernel side tells user space. It states facts;
 * what they mean is decided in Go. Read by internal/probe/decode.go, through
 * the twin of struct event that bpf2go generates.
 */
#ifndef EVENT_H
#define EVENT_H

#define COMM_LEN 16
#define USER_FRAMES 64
#define KERNEL_FRAMES 32

/* Which fact. Kept equal to events.Kind by a test in internal/probe. */
enum event_kind {
	EVENT_CLOSE = 1,      /* one tcp_close, what happened inside it joined */
	EVENT_SHUTDOWN = 2,   /* one inet_shutdown of a TCP socket, likewise */
	EVENT_FIN = 3,	      /* tcp_send_fin outside of both */
	EVENT_RESET = 4,      /* tcp_send_active_reset outside of both */
	EVENT_REPLY = 5,      /* tcp_v4_send_reset, tcp_v6_send_reset */
	EVENT_WAIT_OVER = 6,  /* the SO_LINGER wait of a close has ended */
	EVENT_DISCONNECT = 7, /* one tcp_disconnect that is no part of a close or shutdown */
	EVENT_ABORT = 8,      /* one tcp_abort, what happened inside it joined */
	EVENT_DONE = 9,	      /* tcp_done by a segment or a timer, with an error pending */
	EVENT_PEER_FIN = 10,  /* tcp_fin: a FIN was received */
	EVENT_EPIPE = 11,     /* sk_stream_error: a write failed with EPIPE */
	EVENT_SHARED = 12,    /* a descriptor was closed, its file has other references */
};

/* Yes-or-no facts. Kept equal to events.Flags by a test in internal/probe. */
enum event_flag {
	SENT_FIN = 1 << 0,
	SENT_RST = 1 << 1,
	DISCONNECTED = 1 << 2,
	LINGER_ON = 1 << 3,
	REPAIR = 1 << 4,
	PEER_FIN = 1 << 5,
	ORPHAN = 1 << 6,
	KEEPALIVE = 1 << 7,
	IS_MPTCP = 1 << 8,
	KERNEL_SOCKET = 1 << 9,
	HAS_ULP = 1 << 10,
	NETNS_GONE = 1 << 11,
	TASK_CONTEXT = 1 << 12,
	FILE_CLOSING = 1 << 13,
	COMPAT_SYSCALL = 1 << 14,
	IN_REPORTED_CALL = 1 << 15,
	UNDER_LOCK = 1 << 16,
	REACHED_TCP = 1 << 17,
	RETURN_UNSEEN = 1 << 18,
	SCM_RIGHTS_DROPPED = 1 << 19,
};

/*
 * What went on with a socket: can only be read at its moment, so that a call keeps
 * it until it is over. Wide to narrow, no holes, never packed. Origin "call": taken
 * when the call began; "now": when the event was made; "rst": when the RST was decided.
 */
struct course {
	u64 time_ns;	     /* CLOCK_MONOTONIC when the call began */
	u64 duration_ns;     /* entry to return; 0: no return seen */
	u64 bytes_sent;	     /* call: tcp_sock.bytes_sent, payload */
	u64 bytes_received;  /* call: tcp_sock.bytes_received, a FIN counts one */
	u64 linger_jiffies;  /* call: sock.sk_lingertime */
	u64 timeout_jiffies; /* call: second argument of tcp_close */

	u32 flags;	    /* enum event_flag */
	u32 receive_queue;  /* call, or rst: rcv_nxt - copied_seq */
	u32 unsent;	    /* call: write_seq - snd_nxt */
	u32 unacked;	    /* call: snd_nxt - snd_una */
	u32 output_left;    /* now: write_seq - snd_una */
	u32 unsent_left;    /* now: write_seq - snd_nxt; foretold where no return is seen */
	s32 linger2;	    /* call: tcp_sock.linger2, jiffies */
	s32 sk_err;	    /* call: sock.sk_err */
	s32 result;	    /* shutdown(2): return value; shared: references left;
			     * wait over: the signal that interrupted it */
	u32 kernel_reason;  /* enum sk_rst_reason, 0: none */
	u32 waited_jiffies; /* how long a close that may wait took; its maximum: or more */

	u32 children;	      /* call, listener: sk_ack_backlog */
	u32 children_reset;   /* now, listener: children sent a RST */
	u32 children_dropped; /* now, listener: children torn down */
	u32 requests;	      /* call, listener: handshakes in progress */

	u16 local_port;	  /* host order: inet_sport */
	u8 kind;	  /* enum event_kind */
	u8 before;	  /* call: sk_state */
	u8 after;	  /* the state that the decision led to */
	u8 at_return;	  /* now: sk_state; 0: no return seen */
	u8 at_rst;	  /* last sk_state before the RST was decided */
	u8 shutdown_mask; /* call: sk_shutdown */
	u8 how;		  /* shutdown(2): 1 read, 2 write, 3 both; EPIPE: 1 with SIGPIPE */
	u8 probes;	  /* icsk_probes_out: keepalive or window probes unanswered */
	u8 retransmits;	  /* icsk_retransmits: timeouts in a row */
	u8 segment_flags; /* reply: th_flags of the segment */
};

/* Between whom, and whose call: as good to read when the call is over, as long as
 * the socket is there and nothing has disconnected it. */
struct parties {
	u64 sock;	      /* address of struct sock */
	u64 listener;	      /* the listener being closed whose child this is */
	u64 cgroup_id;	      /* task: bpf_get_current_cgroup_id */
	u64 socket_cgroup_id; /* of sock.sk_cgrp_data; 0: unknown */
	u64 inode;	      /* of the socket's file; 0: none */
	u64 caller;	      /* where `stack` lacks it (ENTRY_CALLER of kernel.h), else 0 */

	u32 netns;	  /* inode of the network namespace */
	u32 pid;	  /* task: thread group id, initial pid namespace */
	u32 tid;	  /* task: thread id, likewise */
	u32 uid;	  /* task */
	u32 task_flags;	  /* task_struct.flags, PF_* */
	s32 exit_code;	  /* task_struct.exit_code */
	s32 syscall;	  /* task: number of the system call; -1 unknown */
	u32 segment;	  /* reply: payload of the segment that is answered */
	u32 user_timeout; /* TCP_USER_TIMEOUT, ms */
	s32 stack;	  /* id of the kernel stack; negative: none taken */
	u32 socket_uid;	  /* sock.sk_uid: who made the socket */

	u16 family;	 /* AF_INET, AF_INET6 */
	u16 remote_port; /* host order: skc_dport */

	u8 local[16]; /* network order; IPv4 in the first four */
	u8 remote[16];
	u8 comm[COMM_LEN];
};

struct event {
	struct course course;
	struct parties parties;
};

/*
 * Where a task's call came from, if stacks are wanted: sent before the event of the
 * same socket and time, and told from an event by its size. Addresses are
 * innermost first, up to the first 0.
 */
struct call_stack {
	u64 time_ns;
	u64 sock;
	u64 start_stack; /* mm_struct.start_stack: which address space that was */
	u64 user[USER_FRAMES];
	u64 kernel[KERNEL_FRAMES];
};

_Static_assert(sizeof(struct event) == 264, "the wire record changed its size");

#endif
