/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* From a socket and a task to a record; the only place that submits one. */
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
 * held_by_task: a task holds the socket lock (lock_sock), so what runs now is
 * its call or work it took over from softirq. Softirq itself takes only the
 * spinlock and never touches a socket that is so held.
 */
static __always_inline bool held_by_task(const struct sock *sk)
{
	return READ(sk, sk_lock.owned);
}

/* file_is_closing: the last reference to the socket's file is gone, or the
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
	flags |= file_is_closing(sk) ? FILE_CLOSING : 0;
	/* Other sockets hold a reference to their namespace. */
	if (flags & KERNEL_SOCKET && netns_is_gone(READ(sk, __sk_common.skc_net.net)))
		flags |= NETNS_GONE;
	e->course.flags |= flags;
}

static __always_inline void capture_addresses(struct event *e, const struct sock *sk)
{
	e->parties.family = READ(sk, __sk_common.skc_family);
	e->parties.remote_port = bpf_ntohs(READ(sk, __sk_common.skc_dport));
	if (e->parties.family == AF_INET6) {
		BPF_CORE_READ_INTO(&e->parties.local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&e->parties.remote, sk, __sk_common.skc_v6_daddr);
	} else {
		u64 pair = READ(sk, __sk_common.skc_addrpair);

		*(u32 *)e->parties.remote = (u32)pair;
		*(u32 *)e->parties.local = pair >> 32;
	}
	e->parties.netns = READ(sk, __sk_common.skc_net.net, ns.inum);
}

/* capture_traffic: how far the connection has come; a disconnect zeroes it. */
static __always_inline void capture_traffic(struct event *e, const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;
	u32 write_seq = READ(tp, write_seq);
	u32 snd_nxt = READ(tp, snd_nxt);

	/* skc_num is 0 once the port is given back; inet_sport stays. */
	e->course.local_port = bpf_ntohs(READ((const struct inet_sock *)sk, inet_sport));
	e->course.before = state_of(sk);
	e->course.after = e->course.before;
	e->course.receive_queue = READ(tp, rcv_nxt) - READ(tp, copied_seq);
	e->course.unsent = write_seq - snd_nxt;
	e->course.unacked = snd_nxt - READ(tp, snd_una);
	e->course.bytes_sent = READ(tp, bytes_sent);
	e->course.bytes_received = READ(tp, bytes_received);
}

/* capture_decision: what __tcp_close decides on. */
static __always_inline void capture_decision(struct event *e, const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;

	capture_traffic(e, sk);
	e->course.linger_jiffies = READ(sk, sk_lingertime);
	e->course.linger2 = READ(tp, linger2);
	e->course.sk_err = READ(sk, sk_err);
	e->course.shutdown_mask = READ(sk, sk_shutdown);
	capture_flags(e, sk);
	if (e->course.before != TCP_LISTEN)
		return;
	e->course.children = READ(sk, sk_ack_backlog);
	e->course.requests =
		READ((const struct inet_connection_sock *)sk, icsk_accept_queue.qlen.counter);
}

/* capture_owner: what finds the process that holds the socket, for endings that are
 * not its call. */
static __always_inline void capture_owner(struct event *e, const struct sock *sk)
{
	const struct socket *socket = READ(sk, sk_socket);

	if (socket)
		e->parties.inode = READ(socket, file, f_inode, i_ino);
	e->parties.socket_uid = READ(sk, sk_uid.val);
}

/* capture_peer_fin: nothing is decided where a FIN is received, so that this is all. */
static __always_inline void capture_peer_fin(struct event *e, const struct sock *sk)
{
	unsigned long bits = READ(sk, __sk_common.skc_flags);

	capture_traffic(e, sk);
	e->course.shutdown_mask = READ(sk, sk_shutdown);
	e->course.flags |= sock_flag(bits, SOCK_DEAD) ? ORPHAN : 0;
	e->course.flags |= is_mptcp_subflow(sk) ? IS_MPTCP : 0;
}

/* capture_timers: what they decide on. */
static __always_inline void capture_timers(struct event *e, const struct sock *sk)
{
	const struct inet_connection_sock *icsk = (const void *)sk;

	e->parties.user_timeout = READ(icsk, icsk_user_timeout);
	e->course.probes = READ(icsk, icsk_probes_out);
	e->course.retransmits = READ(icsk, icsk_retransmits);
}

static __always_inline u64 socket_cgroup_id(const struct sock *sk)
{
	const struct cgroup *cgroup = socket_cgroup(sk);

	return READ(cgroup, kn, id);
}

static __always_inline void capture_socket(struct event *e, const struct sock *sk)
{
	e->parties.sock = (u64)sk;
	e->parties.socket_cgroup_id = socket_cgroup_id(sk);
	capture_addresses(e, sk);
}

/* capture_after: what is left to do for the kernel when the call is over. A
 * disconnect has begun the sequence numbers anew, so that nothing is. */
static __always_inline void capture_after(struct event *e, const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;
	u32 write_seq = READ(tp, write_seq);

	e->course.at_return = state_of(sk);
	if (!(e->course.flags & (SENT_FIN | SENT_RST)))
		e->course.after = e->course.at_return;
	if (e->course.flags & DISCONNECTED)
		return;
	e->course.output_left = write_seq - READ(tp, snd_una);
	e->course.unsent_left = write_seq - READ(tp, snd_nxt);
}

/* current_task: a pointer that the verifier knows, where that saves anything. */
static __always_inline const struct task_struct *current_task(void)
{
#ifdef PLAIN_LOADS
	return (const void *)bpf_get_current_task_btf();
#else
	return (const void *)bpf_get_current_task();
#endif
}

static __always_inline void copy_comm(struct event *e, const struct task_struct *task)
{
#ifdef PLAIN_LOADS
	/* Instead of a helper that looks for the end. */
	_Static_assert(sizeof(e->parties.comm) == 2 * sizeof(u64), "TASK_COMM_LEN");
	((u64 *)e->parties.comm)[0] = ((const u64 *)task->comm)[0];
	((u64 *)e->parties.comm)[1] = ((const u64 *)task->comm)[1];
#else
	bpf_get_current_comm(e->parties.comm, sizeof(e->parties.comm));
#endif
}

/* capture_task: who. Only where it is the task's own call: see held_by_task. */
static __always_inline void capture_task(struct event *e)
{
	const struct task_struct *task = current_task();

	e->parties.pid = READ(task, tgid);
	e->parties.tid = READ(task, pid);
	e->parties.uid = READ(task, cred, uid.val);
	e->parties.cgroup_id = READ(task, cgroups, dfl_cgrp, kn, id);
	e->parties.task_flags = READ(task, flags);
	e->parties.exit_code = READ(task, exit_code);
	copy_comm(e, task);
	e->parties.syscall = -1;
	if (!(e->parties.task_flags & PF_KTHREAD)) {
		struct user_call call = current_user_call();

		e->parties.syscall = call.number;
		e->course.flags |= call.compat ? COMPAT_SYSCALL : 0;
	}
}

/* wakeup: records go out without waking the reader, who comes by on a timer: a
 * wake-up costs forty times the rest. Only a ring that fills up rings; and where
 * stacks are wanted each does, as they are named while the process is there. */
static __always_inline u64 wakeup(void)
{
	if (want_stacks || bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= wakeup_bytes)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* remember fills in whose call it is, and between whom, while it can be read: for
 * where a disconnect, or the end of the socket, comes before the end of the call. */
static __noinline int remember(struct call *call, const struct sock *sk)
{
	__builtin_memset(&call->event.parties, 0, sizeof(call->event.parties));
	capture_task(&call->event);
	capture_socket(&call->event, sk);
	call->remembered = 1;
	return 0;
}

/* submit sends the record of a call: put together in the ring itself, as far as it
 * was not remembered. */
static __noinline int submit(struct call *call)
{
	struct event *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);

	if (!e) {
		count(COUNT_LOST);
		return 0;
	}
	e->course = call->event.course;
	if (call->remembered) {
		e->parties = call->event.parties;
	} else {
		__builtin_memset(&e->parties, 0, sizeof(e->parties));
		capture_task(e);
		capture_socket(e, sock_at(call->sk));
	}
	bpf_ringbuf_submit(e, wakeup());
	return 0;
}

/* new_event makes a record in the ring itself, because two of them on the
 * stacks of a program and its subprogram are more than a kernel before 6.13
 * allows. NULL: the ring is full. Every one has to be sent. */
static __always_inline struct event *new_event(u8 kind, u64 time_ns)
{
	struct event *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);

	if (!e) {
		count(COUNT_LOST);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->course.time_ns = time_ns;
	e->course.kind = kind;
	e->parties.stack = -1;
	e->parties.syscall = -1;
	return e;
}

static __always_inline void send(struct event *e)
{
	bpf_ringbuf_submit(e, wakeup());
}

/* capture_kernel_stack: who called; ctx is the program's, caller what a stack
 * taken there lacks. */
static __always_inline void capture_kernel_stack(struct event *e, void *ctx, u64 caller)
{
	e->parties.stack = bpf_get_stackid(ctx, &stacks, BPF_F_REUSE_STACKID);
	e->parties.caller = caller;
}

/* send_stack: where the call that a task begins now came from; ctx is the
 * program's. */
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
	/* They clear what they do not fill, also where there is nothing. */
	bpf_get_stack(ctx, stack->user, sizeof(stack->user), BPF_F_USER_STACK);
	bpf_get_stack(ctx, stack->kernel, sizeof(stack->kernel), 0);
	bpf_ringbuf_submit(stack, wakeup());
	return 0;
}

/* end_call: the call is over; now: the time of its return, 0 if not seen. */
static __always_inline void end_call(struct call *call, u64 now)
{
	if (!by_tracepoints)
		count(COUNT_ENDED);
	if (now) {
		call->event.course.duration_ns = now - call->event.course.time_ns;
		if (call->began_jiffies) {
			u64 waited = bpf_jiffies64() - call->began_jiffies;

			call->event.course.waited_jiffies = waited > (u32)-1 ? (u32)-1 : waited;
		}
	}
	submit(call);
	close_call(call);
}

/* take_scm_drop tells once that a descriptor in flight was the last of sk. */
static __always_inline u32 take_scm_drop(u64 sk)
{
	if (bpf_map_delete_elem(&scm_dropped, &sk))
		return 0;
	__sync_fetch_and_add(&scm_drops, -1);
	return SCM_RIGHTS_DROPPED;
}

/* begin_captured: begin_call, with what it decides on; ctx is the program's. NULL:
 * filtered, or no memory. Not inlined, like alone(): a dozen programs share them. */
static __noinline struct call *begin_captured(void *ctx, const struct sock *sk, u8 kind)
{
	struct call *call;

	if (!wanted(sk, true))
		return NULL;
	call = begin_call(sk, kind);
	if (!call)
		return NULL;
	if (want_stacks)
		send_stack(ctx, sk, call->event.course.time_ns);
	capture_decision(&call->event, sk);
	if (kind == EVENT_CLOSE && scm_drops)
		call->event.course.flags |= take_scm_drop((u64)sk);
	return call;
}

/* begin_remembered: begin_captured, with whose call it is. */
static __always_inline struct call *begin_remembered(void *ctx, const struct sock *sk, u8 kind)
{
	struct call *call = begin_captured(ctx, sk, kind);

	if (call)
		remember(call, sk);
	return call;
}

#endif
