/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * BPF iterators over sockets that do not close and their holders, only for `closetrace stuck`.
 * internal/probe/iterate.go reads their records.
 */
#ifndef ITERATE_H
#define ITERATE_H

#define IPPROTO_MPTCP 262 /* include/uapi/linux/in.h */

/* Setting, written by internal/probe: changes of state are traced. */
const volatile u8 want_since = 0;

/*
 * When a socket entered its state, if that was traced: CLOCK_MONOTONIC << SINCE_STATE_BITS |
 * state, in one word, so that both are of the same change. The kernel stores it with the socket
 * (5.11), so that it cannot be mistaken for that of another socket.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, s32);
	__type(value, u64);
} since SEC(".maps");

#define SINCE_STATE_BITS 4
#define SINCE_STATE ((1 << SINCE_STATE_BITS) - 1)

/* A connection in FIN_WAIT2 whose socket was freed: a TIME_WAIT entry remains. */
struct small_key {
	u32 netns;
	u16 local_port;
	u16 remote_port;
	u8 local[16];
	u8 remote[16];
};

/* The word of `since` for those, because TIME_WAIT entries have no storage. Every one passes
 * keep_for_small, which overwrites what an earlier connection with these addresses left. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct small_key);
	__type(value, u64);
} since_small SEC(".maps");

/* A listener, or a socket that does not close. The numbers of a TIME_WAIT entry are 0. */
struct stuck_socket {
	u64 inode;	   /* of the socket's file; 0: none */
	u64 expires;	   /* TIME_WAIT entry: jiffies until the kernel removes it */
	u64 age_ns;	   /* in this state; 0: the change was not traced */
	u32 netns;	   /* inode of the network namespace */
	u32 uid;	   /* sock.sk_uid */
	u32 receive_queue; /* rcv_nxt - copied_seq; listener: sk_ack_backlog */
	u32 send_queue;	   /* write_seq - snd_una; listener: sk_max_ack_backlog */
	u32 not_sent;	   /* write_seq - snd_nxt */
	u32 heard_jiffies; /* since the last acknowledgement */
	u32 rto_jiffies;   /* icsk_rto */
	u16 family;	   /* AF_INET, AF_INET6 */
	u16 local_port;	   /* host order */
	u16 remote_port;   /* host order */
	u8 state;	   /* sk_state; TIME_WAIT entry: tw_substate */
	u8 small;	   /* a TIME_WAIT entry */
	u8 backoff;	   /* icsk_backoff */
	u8 retransmits;	   /* icsk_retransmits: timeouts in a row */
	u8 window_closed;  /* the peer's window has no room for more than was sent */
	u8 pad[1];
	u8 local[16]; /* network order; IPv4 in the first four */
	u8 remote[16];
};

/* A descriptor of such a socket. Ids are those of the reader's pid namespace, as in its /proc. */
struct stuck_holder {
	u64 inode; /* of the socket's file */
	u64 began; /* start of the process, nanoseconds after boot */
	u64 table; /* address of the descriptor table, which threads may share */
	u32 fd;
	u32 pid;    /* process */
	u32 tid;    /* thread, if it has a table of its own; else pid */
	u32 parent; /* process; 0: not in this pid namespace */
	u32 uid;
	u8 comm[COMM_LEN]; /* of the process */
	u8 pad[4];
};

/* Keep the types, for bpf2go. */
const struct stuck_socket *stuck_socket_type __attribute__((unused));
const struct stuck_holder *stuck_holder_type __attribute__((unused));

/* waits_for_end reports whether the connection is closing but not closed. */
static __always_inline bool waits_for_end(u8 state)
{
	return state == TCP_CLOSE_WAIT || state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 ||
	       state == TCP_CLOSING || state == TCP_LAST_ACK;
}

static __always_inline void stuck_addresses(struct stuck_socket *s, const struct sock *sk)
{
	s->family = READ(sk, __sk_common.skc_family);
	s->local_port = READ(sk, __sk_common.skc_num);
	s->remote_port = bpf_ntohs(READ(sk, __sk_common.skc_dport));
	s->netns = READ(sk, __sk_common.skc_net.net, ns.inum);
	if (s->family == AF_INET6) {
		BPF_CORE_READ_INTO(&s->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&s->remote, sk, __sk_common.skc_v6_daddr);
	} else {
		*(u32 *)s->local = READ(sk, __sk_common.skc_rcv_saddr);
		*(u32 *)s->remote = READ(sk, __sk_common.skc_daddr);
	}
}

static __always_inline struct small_key small_key_of(const struct stuck_socket *s)
{
	struct small_key key = { .netns = s->netns,
				 .local_port = s->local_port,
				 .remote_port = s->remote_port };

	__builtin_memcpy(key.local, s->local, sizeof(key.local));
	__builtin_memcpy(key.remote, s->remote, sizeof(key.remote));
	return key;
}

/* keep_for_small stores the word of `since` for a socket that leaves FIN_WAIT2. */
static __always_inline void keep_for_small(const struct sock *sk, u64 word)
{
	struct stuck_socket s = {};
	struct small_key key;

	stuck_addresses(&s, sk);
	/* skc_num is already 0. */
	s.local_port = bpf_ntohs(READ((const struct inet_sock *)sk, inet_sport));
	key = small_key_of(&s);
	if ((word & SINCE_STATE) == TCP_FIN_WAIT2)
		bpf_map_update_elem(&since_small, &key, &word, BPF_ANY);
	else
		bpf_map_delete_elem(&since_small, &key);
}

/* on_state_change runs before the state after the change is stored. */
static __always_inline int on_state_change(struct sock *sk, u8 before, u8 after)
{
	u64 *at;

	if (before == after || READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	at = bpf_sk_storage_get(&since, sk, NULL,
				waits_for_end(after) ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (before == TCP_FIN_WAIT2)
		keep_for_small(sock_at(sk), at ? *at : 0);
	if (at)
		*at = bpf_ktime_get_ns() << SINCE_STATE_BITS | after;
	return 0;
}

/* age_in returns for how long a socket has been in its state; 0: unknown. */
static __always_inline u64 age_in(const struct stuck_socket *s, struct sock_common *sk)
{
	struct small_key key = small_key_of(s);
	u64 *at = s->small ? bpf_map_lookup_elem(&since_small, &key)
			   : bpf_sk_storage_get(&since, sk, NULL, 0);
	u64 word = at ? *(volatile u64 *)at : 0;

	if ((word & SINCE_STATE) != s->state)
		return 0;
	return bpf_ktime_get_ns() - (word >> SINCE_STATE_BITS);
}

/* stuck_queues reads the numbers that sock_diag returns. From 5.15 on an iterator holds the
 * socket lock, so that they are of the same moment. */
static __always_inline void stuck_queues(struct stuck_socket *s, const struct sock *sk)
{
	const struct inet_connection_sock *icsk = (const void *)sk;
	const struct tcp_sock *tp = (const void *)sk;
	const struct socket *socket = READ(sk, sk_socket);
	u32 write_seq = READ(tp, write_seq);
	s32 unread;

	s->uid = READ(sk, sk_uid.val);
	if (socket)
		s->inode = BPF_CORE_READ((const struct socket_alloc *)socket, vfs_inode.i_ino);
	if (s->state == TCP_LISTEN) {
		s->receive_queue = READ(sk, sk_ack_backlog);
		s->send_queue = READ(sk, sk_max_ack_backlog);
		return;
	}
	unread = READ(tp, rcv_nxt) - READ(tp, copied_seq);
	s->receive_queue = unread > 0 ? unread : 0;
	s->send_queue = write_seq - READ(tp, snd_una);
	s->not_sent = write_seq - READ(tp, snd_nxt);
	s->heard_jiffies = (u32)bpf_jiffies64() - READ(tp, rcv_tstamp);
	s->rto_jiffies = READ(icsk, icsk_rto);
	s->backoff = READ(icsk, icsk_backoff);
	s->retransmits = READ(icsk, icsk_retransmits);
	s->window_closed = !window_is_open(sk);
}

/* on_tcp_socket writes a record of a socket in the reader's network namespace. */
static __always_inline int on_tcp_socket(struct seq_file *seq, struct sock_common *common)
{
	const struct sock *sk = sock_at(common);
	const struct inet_timewait_sock *tw = (const void *)sk;
	struct stuck_socket s = { .state = state_of(sk) };

	if (s.state == TCP_TIME_WAIT) {
		s.small = 1;
		s.state = BPF_CORE_READ(tw, tw_substate);
		if (s.state != TCP_FIN_WAIT2)
			return 0;
		s.expires = BPF_CORE_READ(tw, tw_timer.expires) - bpf_jiffies64();
	} else if (s.state != TCP_LISTEN && !waits_for_end(s.state)) {
		return 0;
	} else {
		stuck_queues(&s, sk);
	}
	stuck_addresses(&s, sk);
	s.age_ns = want_since ? age_in(&s, common) : 0;
	bpf_seq_write(seq, &s, sizeof(s)); /* all of it, or the kernel calls again */
	return 0;
}

/* id_at returns a process or thread id in the pid namespace of a level; 0: none. */
static __always_inline u32 id_at(const struct pid *pid, u32 level)
{
	u32 nr = 0;

	if (level > BPF_CORE_READ(pid, level))
		return 0;
	bpf_probe_read_kernel(&nr, sizeof(nr),
			      (const void *)pid + bpf_core_field_offset(pid->numbers) +
				      level * bpf_core_type_size(struct upid) +
				      bpf_core_field_offset(struct upid, nr));
	return nr;
}

/* may_be_stuck reports whether the file is a TCP socket that listens or is closing. The state of
 * an MPTCP socket does not show those of its subflows. */
static __always_inline bool may_be_stuck(const struct file *file)
{
	const struct socket *socket;
	const struct sock *sk;
	u8 state;

	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return false;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	if (!sk || BPF_CORE_READ(sk, sk_type) != SOCK_STREAM)
		return false;
	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP)
		return true;
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	return BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP && state != TCP_ESTABLISHED &&
	       state != TCP_SYN_SENT && state != TCP_SYN_RECV;
}

/* on_descriptor writes a record of a descriptor of a process, or of a thread that has a table of
 * its own. */
static __always_inline int on_descriptor(struct seq_file *seq, const struct task_struct *task,
					 u32 fd, const struct file *file)
{
	const struct task_struct *reader = (const void *)bpf_get_current_task();
	const struct task_struct *process;
	struct stuck_holder h = { .fd = fd };
	u32 level;

	if (!may_be_stuck(file))
		return 0;
	process = BPF_CORE_READ(task, group_leader);
	level = BPF_CORE_READ(reader, thread_pid, level);
	h.inode = BPF_CORE_READ(file, f_inode, i_ino);
	h.table = (u64)BPF_CORE_READ(task, files);
	h.pid = id_at(BPF_CORE_READ(process, thread_pid), level);
	/* If the first thread has ended, the table of the others is that of the process. */
	h.tid = BPF_CORE_READ(process, files) ? id_at(BPF_CORE_READ(task, thread_pid), level)
					      : h.pid;
	h.parent = id_at(BPF_CORE_READ(process, real_parent, group_leader, thread_pid), level);
	h.uid = BPF_CORE_READ(process, real_cred, uid.val);
	h.began = BPF_CORE_READ(process, start_boottime);
	BPF_CORE_READ_INTO(&h.comm, process, comm);
	bpf_seq_write(seq, &h, sizeof(h));
	return 0;
}

#endif
