/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The record that the kernel side sends to user space. It contains facts; Go code decides what
 * they mean. internal/probe/decode.go reads it as the type that bpf2go generates from struct
 * event.
 */
#ifndef EVENT_H
#define EVENT_H

#define COMM_LEN 16
#define USER_FRAMES 64
#define KERNEL_FRAMES 32

/* Which fact. Kept equal to events.Kind by a test in internal/probe. */
enum event_kind {
	EVENT_CLOSE = 1,      /* one tcp_close with what happened inside it */
	EVENT_SHUTDOWN = 2,   /* one inet_shutdown of a TCP socket, the same */
	EVENT_FIN = 3,	      /* tcp_send_fin outside of both */
	EVENT_RESET = 4,      /* tcp_send_active_reset outside of both */
	EVENT_REPLY = 5,      /* tcp_v4_send_reset, tcp_v6_send_reset */
	EVENT_WAIT_OVER = 6,  /* the SO_LINGER wait of a close has ended */
	EVENT_DISCONNECT = 7, /* one tcp_disconnect outside of both */
	EVENT_ABORT = 8,      /* one tcp_abort with what happened inside it */
	EVENT_DONE = 9,	      /* tcp_done by a segment or a timer, with an error pending */
	EVENT_PEER_FIN = 10,  /* tcp_fin: a FIN was received */
	EVENT_EPIPE = 11,     /* sk_stream_error: a write failed with EPIPE */
	EVENT_SHARED = 12,    /* a descriptor was closed, its file has other references */
	EVENT_REJECT = 13,    /* nf_send_reset, nf_send_reset6: netfilter sends a RST */
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
	FASTOPEN_CHILD = 1 << 20,
	OOM_VICTIM = 1 << 21,
	ENDED_IN_CALL = 1 << 22,
	ACCEPTED = 1 << 23,
	CONNECTED = 1 << 24,
	WINDOW_OPEN = 1 << 25,
	MAY_MIGRATE = 1 << 26,
};

/*
 * What happened to a socket. It must be read at that moment, so a call stores it until it ends.
 * Wide to narrow, no holes, never packed. Origin "call": read when the call began; "now": when
 * the record was made; "rst": when the RST was decided.
 */
struct progress {
	u64 time_ns;	     /* CLOCK_MONOTONIC when the call began */
	u64 duration_ns;     /* entry to return; 0: no return seen */
	u64 bytes_sent;	     /* call: tcp_sock.bytes_sent, payload */
	u64 bytes_received;  /* call: tcp_sock.bytes_received, a FIN counts one */
	u64 linger_jiffies;  /* call: sock.sk_lingertime, with LINGER_ON */
	u64 timeout_jiffies; /* call: second argument of tcp_close */

	u32 flags;	    /* enum event_flag */
	u32 receive_queue;  /* call, or rst: rcv_nxt - copied_seq */
	u32 unsent;	    /* call: write_seq - snd_nxt */
	u32 unacked;	    /* call: snd_nxt - snd_una */
	u32 output_left;    /* now: write_seq - snd_una */
	u32 unsent_left;    /* now: write_seq - snd_nxt; predicted if no return is seen */
	s32 linger2;	    /* call: tcp_sock.linger2, jiffies */
	s32 sk_err;	    /* call: sock.sk_err */
	s32 result;	    /* shutdown(2): return value; shared: references left;
			     * wait over: the signal that interrupted it; reset of an MPTCP
			     * subflow: unread bytes of its closed connection */
	u32 kernel_reason;  /* enum sk_rst_reason, 0: none */
	u32 waited_jiffies; /* duration of a close that may wait; the maximum means or more */

	u32 children;	      /* call, listener: sk_ack_backlog */
	u32 children_reset;   /* now, listener: children sent a RST */
	u32 children_dropped; /* now, listener: children torn down */
	u32 requests;	      /* call, listener: handshakes in progress */
	u32 backlog_limit;    /* call, listener: sk_max_ack_backlog */

	/* Sequence numbers: they identify the connection and its progress. */
	u32 first_sent;	    /* call: snd_una - bytes_acked: the initial one, or the next */
	u32 first_received; /* call: rcv_nxt - bytes_received, the same for the peer */
	u32 snd_nxt;	    /* call */
	u32 segment_seq;    /* reply: of the segment that is answered; done: of the RST */
	u32 segment_ack;    /* the same: of that segment; 0 without ACK */

	/* Durations up to the moment of the record. */
	u32 idle_received;  /* call: jiffies since the last data, or since the handshake */
	u32 idle_sent;	    /* call: jiffies since data was sent last */
	u32 retransmitting; /* ms since the first transmission of unacknowledged data,
			     * or of the SYN; 0: unknown */
	u32 probing;	    /* jiffies since the first window probe; 0: none, or unknown */

	u32 srtt_us;	   /* call: smoothed round-trip time; 0: not measured */
	u32 retransmitted; /* call: segments sent again, of the whole connection */

	u32 icmp_errno; /* of the error in sk_error_queue, in SYN_SENT; 0: none */
	u32 icmp;	/* its origin << 16 | type << 8 | code */

	u16 local_port;	  /* host order: inet_sport */
	u8 kind;	  /* enum event_kind */
	u8 before;	  /* call: sk_state */
	u8 after;	  /* the state that the decision led to */
	u8 at_return;	  /* now: sk_state; 0: no return seen */
	u8 at_rst;	  /* last sk_state before the RST was decided */
	u8 shutdown_mask; /* call: sk_shutdown */
	u8 how;		  /* shutdown(2): 1 read, 2 write, 3 both; EPIPE: 1 with SIGPIPE;
			   * reject: enum nf_inet_hooks */
	u8 probes;	  /* icsk_probes_out: keepalive or window probes unanswered */
	u8 retransmits;	  /* icsk_retransmits: timeouts in a row */
	u8 segment_flags; /* reply, done: th_flags of the segment; 0: unknown */
};

/* Endpoints and actor. May be read at the end of the call as well, unless the socket was freed
 * or disconnected by then. */
struct endpoints {
	u64 sock;	      /* address of struct sock */
	u64 listener;	      /* the listener being closed whose child this is */
	u64 cgroup_id;	      /* task: bpf_get_current_cgroup_id */
	u64 socket_cgroup_id; /* of sock.sk_cgrp_data; 0: unknown */
	u64 inode;	      /* of the socket's file; 0: none */
	u64 caller;	      /* frame that `stack` lacks (ENTRY_CALLER of kernel.h), else 0 */

	u32 netns;	  /* inode of the network namespace */
	u32 pid;	  /* task: thread group id, initial pid namespace */
	u32 tid;	  /* task: thread id, initial pid namespace */
	u32 uid;	  /* task */
	u32 task_flags;	  /* task_struct.flags, PF_* */
	s32 exit_code;	  /* task_struct.exit_code */
	s32 syscall;	  /* task: number of the system call; -1 unknown */
	u32 segment;	  /* reply: payload of the segment that is answered */
	u32 user_timeout; /* TCP_USER_TIMEOUT, ms */
	s32 stack;	  /* id of struct kernel_stack; negative: none taken */
	u32 socket_uid;	  /* sock.sk_uid: of the process that created the socket */

	/* done: headers of the RST that was received, if ttl is not 0 */
	u32 rst_options; /* bit n: TCP option of kind n; bit 31: of kind 31 or higher */
	u16 rst_window;	 /* as in the header, not scaled */
	u16 rst_ip_id;	 /* IPv4 */

	u16 remote_port; /* host order: skc_dport */
	u8 family;	 /* AF_INET, AF_INET6 */
	u8 rst_ttl;	 /* TTL, or hop limit */

	u8 local[16]; /* network order; IPv4 in the first four */
	u8 remote[16];
	u8 comm[COMM_LEN];    /* of the thread */
	u8 process[COMM_LEN]; /* of the thread group's leader, if it is another thread; in execve
			       * of the program before */
};

struct event {
	struct progress progress;
	struct endpoints endpoints;
};

/*
 * The stacks of a call, if they are requested. Sent before the event of the same socket and
 * time, and distinguished from an event by its size. Addresses are innermost first, up to the
 * first 0.
 */
struct call_stack {
	u64 time_ns;
	u64 sock;
	u64 start_stack; /* mm_struct.start_stack: identifies the address space */
	u64 user[USER_FRAMES];
	u64 kernel[KERNEL_FRAMES];
};

/*
 * The kernel stack of an event that is not part of a call. Sent before the event, and distinguished from
 * it by its size. A stack map would not do: it replaces one stack by another of the same bucket.
 */
struct kernel_stack {
	u64 id;			   /* of struct endpoints */
	u64 frames[KERNEL_FRAMES]; /* innermost first, up to the first 0 */
};

/*
 * A close that is only counted, for the endings that it explains: see notes.h. The two numbers
 * are the same once the note is complete.
 */
struct note {
	u64 begun;   /* thread id << 32 | number of the note, written first */
	u64 time_ns; /* as in struct progress, as what follows */
	u64 sock;    /* as in struct endpoints, as what follows without another origin */
	u32 netns;
	u32 pid;
	u32 tid;
	u32 uid;
	u32 first_sent;	    /* progress */
	u32 first_received; /* progress */
	u32 snd_nxt;	    /* progress */
	u32 unsent;	    /* progress */
	u32 ports;	    /* skc_portpair: remote port in network order, local one */
	u8 family;
	u8 before;   /* progress */
	u8 accepted; /* progress: ACCEPTED, otherwise CONNECTED */
	u8 pad;
	u8 local[16];
	u8 remote[16];
	u8 comm[COMM_LEN];
	u8 process[COMM_LEN];
	u64 ended; /* as begun, written last */
};

_Static_assert(sizeof(struct event) == 344, "the wire record changed its size");

#endif
