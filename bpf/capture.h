/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Reads a socket and a task into a record. Records are submitted only here. */
#ifndef CAPTURE_H
#define CAPTURE_H

static __always_inline u8 state_of(const struct sock *sk)
{
	return READ(sk, __sk_common.skc_state);
}

static __always_inline bool is_tcp(const struct sock *sk)
{
	return READ(sk, sk_protocol) == IPPROTO_TCP;
}

/*
 * held_by_task reports whether a task holds the socket lock (lock_sock): then what runs now is
 * its call, or work that softirq left to it. Softirq itself takes only the spinlock, and does
 * not touch a socket whose lock is held.
 */
static __always_inline bool held_by_task(const struct sock *sk)
{
	return READ(sk, sk_lock.owned);
}

/* file_is_closing reports whether the last reference to the socket's file was released, or the
 * kernel closes a socket of its own that never had a file. */
static __always_inline bool file_is_closing(const struct sock *sk)
{
	const struct socket *socket = READ(sk, sk_socket);
	const struct file *file;

	if (!socket)
		return false;
	file = READ(socket, file);
	if (!file)
		return READ(sk, sk_shutdown) == (RCV_SHUTDOWN | SEND_SHUTDOWN);
	return file_is_dying(file);
}

#define sock_flag(flags, name) ((flags >> bpf_core_enum_value(enum sock_flags, name)) & 1)

static __always_inline void capture_flags(struct event *e, const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;
	unsigned long bits = READ(sk, __sk_common.skc_flags);
	u32 flags = 0;

	flags |= sock_flag(bits, SOCK_LINGER) ? LINGER_ON : 0;
	flags |= sock_flag(bits, SOCK_DONE) ? PEER_FIN : 0;
	flags |= sock_flag(bits, SOCK_DEAD) ? ORPHAN : 0;
	flags |= sock_flag(bits, SOCK_KEEPOPEN) ? KEEPALIVE : 0;
	flags |= READ_BIT(tp, repair) ? REPAIR : 0;
	flags |= READ_BIT(sk, sk_kern_sock) ? KERNEL_SOCKET : 0;
	flags |= is_mptcp_subflow(sk) ? IS_MPTCP : 0;
	flags |= READ((const struct inet_connection_sock *)sk, icsk_ulp_ops) ? HAS_ULP : 0;
	/* The end of the handshake clears it. */
	if (e->progress.before != TCP_ESTABLISHED && e->progress.before != TCP_CLOSE_WAIT)
		flags |= READ(tp, fastopen_rsk) ? FASTOPEN_CHILD : 0;
	flags |= file_is_closing(sk) ? FILE_CLOSING : 0;
	/* Only kernel sockets do not hold a reference to their namespace. */
	if (flags & KERNEL_SOCKET && netns_is_gone(READ(sk, __sk_common.skc_net.net)))
		flags |= NETNS_GONE;
	e->progress.flags |= flags;
}

static __always_inline void capture_addresses(struct event *e, const struct sock *sk)
{
	e->endpoints.family = READ(sk, __sk_common.skc_family);
	e->endpoints.remote_port = bpf_ntohs(READ(sk, __sk_common.skc_dport));
	if (e->endpoints.family == AF_INET6) {
		BPF_CORE_READ_INTO(&e->endpoints.local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&e->endpoints.remote, sk, __sk_common.skc_v6_daddr);
	} else {
		u64 pair = READ(sk, __sk_common.skc_addrpair);

		*(u32 *)e->endpoints.remote = (u32)pair;
		*(u32 *)e->endpoints.local = pair >> 32;
	}
	e->endpoints.netns = READ(sk, __sk_common.skc_net.net, ns.inum);
}

/* is_accepted reports whether a listener made this socket: the kernel then keeps the interface that the SYN arrived on
 * where multicast has its own, which nobody sets for TCP (tcp_v4_syn_recv_sock, tcp_v6_syn_recv_sock). */
static __always_inline bool is_accepted(const struct sock *sk, u16 family)
{
	const struct inet_sock *inet = (const void *)sk;
	const struct ipv6_pinfo *v6;

	if (READ(inet, mc_index))
		return true;
	if (family != AF_INET6)
		return false;
	v6 = READ(inet, pinet6);
	return v6 && READ(v6, mcast_oif);
}

/* first_sent_of returns the first sequence number of this side, or the next one. */
static __always_inline u32 first_sent_of(const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;

	return READ(tp, snd_una) - (u32)READ(tp, bytes_acked);
}

/* capture_traffic reads sequence numbers and byte counts; a disconnect zeroes them. */
static __always_inline void capture_traffic(struct event *e, const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;
	u32 write_seq = READ(tp, write_seq);
	u32 snd_nxt = READ(tp, snd_nxt);
	u32 snd_una = READ(tp, snd_una);
	u32 rcv_nxt = READ(tp, rcv_nxt);
	u64 received = READ(tp, bytes_received);

	/* skc_num is 0 once the port is released; inet_sport remains. */
	e->progress.local_port = bpf_ntohs(READ((const struct inet_sock *)sk, inet_sport));
	e->progress.before = state_of(sk);
	e->progress.after = e->progress.before;
	e->progress.receive_queue = rcv_nxt - READ(tp, copied_seq);
	e->progress.unsent = write_seq - snd_nxt;
	e->progress.unacked = snd_nxt - snd_una;
	e->progress.snd_nxt = snd_nxt;
	e->progress.bytes_sent = READ(tp, bytes_sent);
	e->progress.bytes_received = received;
	e->progress.first_received = rcv_nxt - (u32)received;
	e->progress.first_sent = snd_una - (u32)READ(tp, bytes_acked);
	e->progress.flags |=
		is_accepted(sk, READ(sk, __sk_common.skc_family)) ? ACCEPTED : CONNECTED;
	e->progress.srtt_us = READ(tp, srtt_us) >> 3; /* the kernel keeps eighths */
	e->progress.retransmitted = READ(tp, total_retrans);
}

/* capture_idle reads how long ago data was received and sent, or the handshake was completed. */
static __always_inline void capture_idle(struct event *e, const struct sock *sk)
{
	u32 received = READ((const struct inet_connection_sock *)sk, icsk_ack.lrcvtime);
	u32 sent = READ((const struct tcp_sock *)sk, lsndtime);
	u32 now = bpf_jiffies64();

	e->progress.idle_received = received ? now - received : 0;
	e->progress.idle_sent = sent ? now - sent : 0;
}

/* capture_accept_queue reads the queues of a listener. */
static __always_inline void capture_accept_queue(struct event *e, const struct sock *sk)
{
	const struct inet_connection_sock *icsk = (const void *)sk;

	e->progress.children = READ(sk, sk_ack_backlog);
	e->progress.backlog_limit = READ(sk, sk_max_ack_backlog);
	e->progress.requests = READ(icsk, icsk_accept_queue.qlen.counter);
}

/* capture_queued_error reads an ICMP error from the error queue (ip_icmp_error). The application
 * may read it or see it in poll(2), and the kernel keeps connecting. */
static __noinline int capture_queued_error(struct event *e, const struct sock *sk)
{
	const struct sk_buff *skb = BPF_CORE_READ(sk, sk_error_queue.next);
	const struct sock_exterr_skb *control;

	if (!skb || skb == (const void *)sk + bpf_core_field_offset(sk->sk_error_queue))
		return 0;
	control = (const void *)skb + bpf_core_field_offset(skb->cb);
	e->progress.icmp_errno = BPF_CORE_READ(control, ee.ee_errno);
	e->progress.icmp = BPF_CORE_READ(control, ee.ee_origin) << 16 |
			   BPF_CORE_READ(control, ee.ee_type) << 8 |
			   BPF_CORE_READ(control, ee.ee_code);
	return 0;
}

/* capture_retransmission reads how often and since when the kernel retransmits. */
static __always_inline void capture_retransmission(struct event *e, const struct sock *sk)
{
	const struct inet_connection_sock *icsk = (const void *)sk;
	const struct tcp_sock *tp = (const void *)sk;
	u32 stamp = READ(tp, retrans_stamp);

	e->progress.retransmits = READ(icsk, icsk_retransmits);
	e->progress.retransmitting = stamp ? ms_since(sk, stamp) : 0;
}

/* capture_decision reads what __tcp_close decides on. */
static __always_inline void capture_decision(struct event *e, const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;

	capture_traffic(e, sk);
	capture_idle(e, sk);
	e->progress.linger2 = READ(tp, linger2);
	e->progress.sk_err = READ(sk, sk_err);
	e->progress.shutdown_mask = READ(sk, sk_shutdown);
	capture_flags(e, sk);
	e->progress.linger_jiffies = e->progress.flags & LINGER_ON ? READ(sk, sk_lingertime) : 0;
	if (e->progress.before == TCP_SYN_SENT) {
		capture_retransmission(e, sk);
		capture_queued_error(e, sk);
	}
	if (e->progress.before == TCP_LISTEN) {
		capture_accept_queue(e, sk);
		e->progress.flags |= may_migrate(sk) ? MAY_MIGRATE : 0;
	}
}

/* capture_owner reads what user space needs to find the process that holds the socket, for
 * endings that another process or the kernel caused. */
static __always_inline void capture_owner(struct event *e, const struct sock *sk)
{
	const struct socket *socket = READ(sk, sk_socket);

	if (socket)
		e->endpoints.inode = READ(socket, file, f_inode, i_ino);
	e->endpoints.socket_uid = READ(sk, sk_uid.val);
}

/* capture_peer_fin reads what is needed of a received FIN: the kernel decides nothing there. */
static __always_inline void capture_peer_fin(struct event *e, const struct sock *sk)
{
	unsigned long bits = READ(sk, __sk_common.skc_flags);

	capture_traffic(e, sk);
	capture_idle(e, sk);
	e->progress.shutdown_mask = READ(sk, sk_shutdown);
	e->progress.flags |= sock_flag(bits, SOCK_DEAD) ? ORPHAN : 0;
	e->progress.flags |= is_mptcp_subflow(sk) ? IS_MPTCP : 0;
}

/* window_is_open reports whether the peer's window has room for more than was sent. */
static __always_inline bool window_is_open(const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;

	return (s32)(READ(tp, snd_una) + READ(tp, snd_wnd) - READ(tp, snd_nxt)) > 0;
}

/* capture_timers reads what the timers decide on. */
static __always_inline void capture_timers(struct event *e, const struct sock *sk)
{
	const struct inet_connection_sock *icsk = (const void *)sk;
	u32 since = probing_since(sk);

	e->progress.flags |= window_is_open(sk) ? WINDOW_OPEN : 0;

	e->endpoints.user_timeout = READ(icsk, icsk_user_timeout);
	e->progress.probes = READ(icsk, icsk_probes_out);
	e->progress.probing = since ? (u32)bpf_jiffies64() - since : 0;
	capture_retransmission(e, sk);
}

static __always_inline u64 socket_cgroup_id(const struct sock *sk)
{
	const struct cgroup *cgroup = socket_cgroup(sk);

	return READ(cgroup, kn, id);
}

static __always_inline void capture_socket(struct event *e, const struct sock *sk)
{
	e->endpoints.sock = (u64)sk;
	e->endpoints.socket_cgroup_id = socket_cgroup_id(sk);
	capture_addresses(e, sk);
}

/* capture_after reads what the kernel still has to send after the call. After a disconnect that
 * is nothing: it starts the sequence numbers again. */
static __always_inline void capture_after(struct event *e, const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;
	u32 write_seq = READ(tp, write_seq);

	e->progress.at_return = state_of(sk);
	if (!(e->progress.flags & (SENT_FIN | SENT_RST)))
		e->progress.after = e->progress.at_return;
	if (e->progress.flags & DISCONNECTED)
		return;
	e->progress.output_left = write_seq - READ(tp, snd_una);
	e->progress.unsent_left = write_seq - READ(tp, snd_nxt);
}

static __always_inline void copy_comm(u8 *comm, const struct task_struct *task)
{
#ifdef PLAIN_LOADS
	/* Cheaper than a helper that searches for the end. */
	_Static_assert(COMM_LEN == 2 * sizeof(u64), "TASK_COMM_LEN");
	((u64 *)comm)[0] = *(const u64 *)&task->comm[0];
	((u64 *)comm)[1] = *(const u64 *)&task->comm[sizeof(u64)];
#else
	bpf_probe_read_kernel(comm, COMM_LEN, task->comm);
#endif
}

/* capture_old_name reads the name of the program that the current task ran before execve(2). */
static __always_inline void capture_old_name(struct event *e)
{
	u32 tid = e->endpoints.tid;
	const struct old_name *old = bpf_map_lookup_elem(&old_names, &tid);

	if (old)
		__builtin_memcpy(e->endpoints.process, old->comm, COMM_LEN);
}

/* on_rename runs at task:task_rename, before the task has its new name. */
static __always_inline int on_rename(const struct task_struct *task)
{
	u32 tid = BPF_CORE_READ(task, pid);
	struct old_name old = {};

	bpf_probe_read_kernel(old.comm, COMM_LEN, task->comm);
	bpf_map_update_elem(&old_names, &tid, &old, BPF_ANY);
	noted_of(tid)->renamed = tid;
	return 0;
}

/* capture_task reads the current task. Only for calls of that task: see held_by_task. */
static __always_inline void capture_task(struct event *e)
{
	const struct task_struct *task = current_task();

	e->endpoints.pid = READ(task, tgid);
	e->endpoints.tid = READ(task, pid);
	e->endpoints.uid = READ(walkable(task), cred, uid.val);
	e->endpoints.cgroup_id = READ(walkable(task), cgroups, dfl_cgrp, kn, id);
	e->endpoints.task_flags = READ(task, flags);
	e->endpoints.exit_code = READ(task, exit_code);
	copy_comm(e->endpoints.comm, task);
	if (e->endpoints.tid != e->endpoints.pid)
		copy_comm(e->endpoints.process, READ(walkable(task), group_leader));
	if (e->endpoints.task_flags & PF_EXITING && READ(walkable(task), signal, oom_mm))
		e->progress.flags |= OOM_VICTIM;
	e->endpoints.syscall = -1;
	if (!(e->endpoints.task_flags & PF_KTHREAD)) {
		struct user_call call = current_user_call();

		e->endpoints.syscall = call.number;
		e->progress.flags |= call.compat ? COMPAT_SYSCALL : 0;
		if (has_rename && is_execve(call))
			capture_old_name(e);
	}
}

/* wakeup: submit without waking the reader, which polls every 50 ms: a wake-up costs forty times
 * the rest. Force a wake-up only when the reader sleeps, when the ring is 1/4 full, or with stacks,
 * because user space must resolve them while the process exists. */
static __always_inline u64 wakeup(void)
{
	if (reader_sleeps) {
		reader_sleeps = 0;
		return BPF_RB_FORCE_WAKEUP;
	}
	if (want_stacks || bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= wakeup_bytes)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* capture_endpoints reads the endpoints and the actor at the begin of a call, because a
 * disconnect or the end of the socket may come before the end of the call. */
static __noinline int capture_endpoints(struct call *call, const struct sock *sk)
{
	__builtin_memset(&call->event.endpoints, 0, sizeof(call->event.endpoints));
	capture_task(&call->event);
	capture_socket(&call->event, sk);
	call->has_endpoints = 1;
	return 0;
}

/* submit sends the record of a call. It reads endpoints and actor directly into the ring if they
 * were not read before. */
static __noinline int submit(struct call *call)
{
	struct event *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);

	if (!e) {
		count(COUNT_LOST);
		return 0;
	}
	e->progress = call->event.progress;
	if (call->has_endpoints) {
		e->endpoints = call->event.endpoints;
	} else {
		__builtin_memset(&e->endpoints, 0, sizeof(e->endpoints));
		capture_task(e);
		capture_socket(e, sock_at(call->sk));
	}
	bpf_ringbuf_submit(e, wakeup());
	return 0;
}

/* new_event reserves a record in the ring, because two records on the stacks of a program and
 * its subprogram exceed the limit of kernels before 6.13. It returns NULL if the ring is full.
 * Every record must be sent. */
static __always_inline struct event *new_event(u8 kind, u64 time_ns)
{
	struct event *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);

	if (!e) {
		count(COUNT_LOST);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->progress.time_ns = time_ns;
	e->progress.kind = kind;
	e->endpoints.stack = -1;
	e->endpoints.syscall = -1;
	return e;
}

static __always_inline void send(struct event *e)
{
	bpf_ringbuf_submit(e, wakeup());
}

/* send_kernel_stack sends a kernel stack for the event that follows, and returns its id: a random
 * one, which few events at once have to tell apart. ctx is the program's. */
static __noinline s32 send_kernel_stack(void *ctx)
{
	struct kernel_stack *stack = bpf_ringbuf_reserve(&ring, sizeof(*stack), 0);
	s32 id;

	if (!stack)
		return -1; /* the event, if it finds room, says that it has none */
	id = bpf_get_prandom_u32() & 0x7fffffff;
	stack->id = id;
	/* The helper clears what it does not fill, but not if too many programs are nested on this CPU. */
	if (bpf_get_stack(ctx, stack->frames, sizeof(stack->frames), 0) < 0) {
		bpf_ringbuf_discard(stack, BPF_RB_NO_WAKEUP);
		return -1;
	}
	bpf_ringbuf_submit(stack, BPF_RB_NO_WAKEUP);
	return id;
}

/* send_stack sends the stacks of the call that the current task begins. ctx is the program's. */
static __noinline int send_stack(void *ctx, const struct sock *sk, u64 time_ns)
{
	struct call_stack *stack = bpf_ringbuf_reserve(&ring, sizeof(*stack), 0);
	const struct task_struct *task = (const void *)bpf_get_current_task();

	if (!stack) {
		count(COUNT_LOST);
		return 0;
	}
	stack->time_ns = time_ns;
	stack->sock = (u64)sk;
	stack->start_stack = BPF_CORE_READ(task, mm, start_stack);
	/* The helpers clear what they do not fill, also on errors. */
	bpf_get_stack(ctx, stack->user, sizeof(stack->user), BPF_F_USER_STACK);
	bpf_get_stack(ctx, stack->kernel, sizeof(stack->kernel), 0);
	bpf_ringbuf_submit(stack, wakeup());
	return 0;
}

/* end_call reports a call that has ended. now is the time of its return, 0 if not seen. */
static __always_inline void end_call(struct call *call, u64 now)
{
	if (!by_tracepoints)
		count(COUNT_ENDED);
	if (now) {
		call->event.progress.duration_ns = now - call->event.progress.time_ns;
		if (call->began_jiffies) {
			u64 waited = bpf_jiffies64() - call->began_jiffies;

			call->event.progress.waited_jiffies = waited > (u32)-1 ? (u32)-1 : waited;
		}
	}
	submit(call);
	close_call(call);
}

/* take_scm_drop returns SCM_RIGHTS_DROPPED once if the last descriptor of sk was in a message. */
static __always_inline u32 take_scm_drop(u64 sk)
{
	if (bpf_map_delete_elem(&scm_dropped, &sk))
		return 0;
	__sync_fetch_and_add(&scm_drops, -1);
	return SCM_RIGHTS_DROPPED;
}

/* begin_captured begins a call and reads what it decides on. ctx is the program's. It returns
 * NULL if the filter rejects the socket or memory is lacking. It is not inlined, because a dozen
 * programs share it. */
static __noinline struct call *begin_captured(void *ctx, const struct sock *sk, u8 kind)
{
	/* Also of a socket that is not wanted: the next one at its address was not dropped. */
	u32 dropped = kind == EVENT_CLOSE && scm_drops ? take_scm_drop((u64)sk) : 0;
	struct call *call;

	if (!wanted(sk, true))
		return NULL;
	call = begin_call(sk, kind);
	if (!call)
		return NULL;
	if (want_stacks)
		send_stack(ctx, sk, call->event.progress.time_ns);
	capture_decision(&call->event, sk);
	call->event.progress.flags |= dropped;
	return call;
}

/* begin_with_endpoints is begin_captured with endpoints and actor. */
static __always_inline struct call *begin_with_endpoints(void *ctx, const struct sock *sk, u8 kind)
{
	struct call *call = begin_captured(ctx, sk, kind);

	if (call)
		capture_endpoints(call, sk);
	return call;
}

#endif
