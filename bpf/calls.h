/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The handlers of fentry and kprobe mode: a close or a shutdown is followed
 * from entry to return, what happens to its socket meanwhile is joined into
 * it, and what happens outside leaves a record of its own.
 */
#ifndef CALLS_H
#define CALLS_H

static __always_inline bool call_is_on(const struct call *call, const struct sock *sk)
{
	return call && call->sk == (u64)sk;
}

/*
 * child_of: sk waits in the accept queue of the listener that the open call
 * tears down: inet_csk_listen_stop disconnects it without calling tcp_close.
 */
static __always_inline bool child_of(const struct call *call, const struct sock *sk)
{
	return call && call->event.before == TCP_LISTEN && call->sk != (u64)sk &&
	       !BPF_CORE_READ(sk, sk_socket) &&
	       call->event.local_port ==
		       bpf_ntohs(BPF_CORE_READ((const struct inet_sock *)sk, inet_sport));
}

/* tcp_close, before it takes the socket lock. */
static __always_inline int enter_close(const struct sock *sk, u64 timeout)
{
	struct call *call = begin_captured(sk, EVENT_CLOSE);

	if (call)
		call->event.timeout_jiffies = timeout;
	return 0;
}

/* __tcp_close, under the lock: the moment of decision. MPTCP subflows come
 * here without tcp_close. */
static __always_inline int enter_locked_close(const struct sock *sk, u64 timeout)
{
	struct call *call = open_call();

	if (call_is_on(call, sk)) {
		capture_decision(&call->event, sk);
	} else {
		if (has_tcp_close && !is_mptcp_subflow(sk))
			return 0; /* filtered there */
		call = begin_captured(sk, EVENT_CLOSE);
		if (!call)
			return 0;
		call->event.timeout_jiffies = timeout;
	}
	call->event.flags |= UNDER_LOCK;
	return 0;
}

/* __tcp_close returns: still locked and referenced. */
static __always_inline int leave_locked_close(void)
{
	struct call *call = open_call();

	if (!call || call->event.kind != EVENT_CLOSE)
		return 0;
	capture_after(&call->event, (const struct sock *)call->sk);
	end_call(call, bpf_ktime_get_ns());
	return 0;
}

/* tcp_close returns, on kernels without __tcp_close: sk may be freed by now. */
static __always_inline int leave_close(void)
{
	struct call *call = open_call();

	if (!call || call->event.kind != EVENT_CLOSE)
		return 0;
	end_call(call, bpf_ktime_get_ns());
	return 0;
}

/* inet_shutdown, before the lock. how: 0 read, 1 write, 2 both. UDP and MPTCP
 * sockets come this way, too. */
static __always_inline int enter_shutdown(const struct socket *socket, u32 how)
{
	const struct sock *sk = BPF_CORE_READ(socket, sk);
	struct call *call;

	if (!sk || !is_tcp(sk))
		return 0;
	call = begin_captured(sk, EVENT_SHUTDOWN);
	if (call)
		call->event.how = how + 1;
	return 0;
}

/* tcp_shutdown, under the lock. how: a mask. Softirq comes here to send a FIN
 * that had to wait for the handshake: tcp_send_fin tells of that one. */
static __always_inline int enter_tcp_shutdown(const struct sock *sk, u32 how)
{
	struct call *call = open_call();

	if (call_is_on(call, sk)) {
		u8 mask = call->event.shutdown_mask;

		capture_decision(&call->event, sk);
		call->event.shutdown_mask = mask; /* inet_shutdown has set its own bits by now */
	} else {
		if (has_inet_shutdown || !held_by_task(sk))
			return 0;
		call = begin_captured(sk, EVENT_SHUTDOWN);
		if (!call)
			return 0;
		call->event.how = how;
	}
	call->event.flags |= UNDER_LOCK | REACHED_TCP;
	return 0;
}

/* inet_shutdown (or tcp_shutdown) returns: the file is still referenced. */
static __always_inline int leave_shutdown(s32 result)
{
	struct call *call = open_call();

	if (!call || call->event.kind != EVENT_SHUTDOWN)
		return 0;
	call->event.result = result;
	capture_after(&call->event, (const struct sock *)call->sk);
	end_call(call, bpf_ktime_get_ns());
	return 0;
}

/* What is known of a fact that stands alone, besides its socket. */
struct fact {
	u64 listener; /* as in struct event */
	u32 flags;
	u32 reason;
	u8 kind;
	u8 at_rst;
	u8 pad[6];
};

/* alone: a fact about sk outside of any call on it. */
static __noinline int alone(const struct sock *sk, const struct fact *fact)
{
	bool by_task = held_by_task(sk) || fact->listener;
	struct event e;

	if (!wanted(sk, by_task))
		return 0;
	__builtin_memset(&e, 0, sizeof(e));
	e.time_ns = bpf_ktime_get_ns();
	e.kind = fact->kind;
	e.flags = fact->flags | (by_task ? TASK_CONTEXT : 0);
	e.listener = fact->listener;
	e.kernel_reason = fact->reason;
	e.syscall = -1;
	if (by_task)
		capture_task(&e);
	capture_socket(&e, sk);
	e.at_rst = fact->at_rst;
	submit(&e);
	return 0;
}

static __always_inline int fin_alone(const struct sock *sk)
{
	struct fact fact = { .kind = EVENT_FIN, .flags = SENT_FIN };

	return alone(sk, &fact);
}

static __always_inline int on_fin(const struct sock *sk)
{
	struct call *call = open_call();

	if (!call_is_on(call, sk))
		return fin_alone(sk);
	call->event.flags |= SENT_FIN;
	call->event.after = state_of(sk);
	return 0;
}

/* tcp_disconnect: zeroes the counters, resets if the state asks for it. */
static __always_inline int on_disconnect(const struct sock *sk)
{
	struct call *call = open_call();

	if (call_is_on(call, sk)) {
		call->event.flags |= DISCONNECTED;
	} else if (child_of(call, sk)) {
		call->event.children_dropped++;
		call->child_before = state_of(sk);
	}
	return 0;
}

/* reset_in_call: a segment may have come between entry and decision, so what
 * counts is what is unread now. */
static __always_inline void reset_in_call(struct call *call, const struct sock *sk, u32 reason)
{
	struct event *e = &call->event;
	const struct tcp_sock *tp = (const void *)sk;

	if (!(e->flags & SENT_FIN)) {
		e->receive_queue = BPF_CORE_READ(tp, rcv_nxt) - BPF_CORE_READ(tp, copied_seq);
		capture_flags(e, sk);
	}
	e->flags |= SENT_RST;
	e->after = state_of(sk);
	e->kernel_reason = reason;
	e->output_left = BPF_CORE_READ(tp, write_seq) - BPF_CORE_READ(tp, snd_una);
	e->at_rst = e->before;
	if (e->flags & SENT_FIN)
		e->at_rst = e->before == TCP_CLOSE_WAIT ? TCP_LAST_ACK : TCP_FIN_WAIT1;
	/* FIN_WAIT2: our FIN is acknowledged, which may have happened meanwhile. */
	if (e->at_rst == TCP_FIN_WAIT1 && !e->output_left)
		e->at_rst = TCP_FIN_WAIT2;
}

static __always_inline int on_active_reset(const struct sock *sk, u32 reason)
{
	struct fact fact = { .kind = EVENT_RESET, .flags = SENT_RST, .reason = reason };
	struct call *call = open_call();

	if (call_is_on(call, sk) && !call->reported) {
		reset_in_call(call, sk, reason);
		return 0;
	}
	if (call_is_on(call, sk)) {
		fact.flags |= IN_REPORTED_CALL;
		fact.at_rst = call->last_state;
	} else if (child_of(call, sk)) {
		call->event.children_reset++;
		fact.listener = call->sk;
		fact.at_rst = call->child_before;
	}
	return alone(sk, &fact);
}

/*
 * tcp:tcp_send_reset with a segment: a RST in reply to it. Only full sockets
 * that the segment has just closed belong to a close or shutdown of ours.
 */
static __always_inline int on_reply(const struct sock *sk, u32 reason)
{
	struct fact fact = { .kind = EVENT_REPLY, .flags = SENT_RST, .reason = reason };

	if (!sk || state_of(sk) != TCP_CLOSE)
		return 0;
	return alone(sk, &fact);
}

#endif
