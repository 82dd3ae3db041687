/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The handlers of fentry and kprobe mode: a close or a shutdown is followed
 * from entry to return, what happens to its socket meanwhile is joined into
 * it, and what happens outside leaves a record of its own.
 */
#ifndef CALLS_H
#define CALLS_H

/*
 * call_is_on: what happens to sk now is part of this call. The task may have
 * been interrupted by a segment or a timer of the same socket, before the call
 * took the lock, while it sleeps, or, in tracepoint mode, after it: that is
 * nobody's call, and then no task holds the lock.
 */
static __always_inline bool call_is_on(const struct call *call, const struct sock *sk)
{
	return call && call->sk == (u64)sk && held_by_task(sk);
}

/*
 * child_of: sk waits in the accept queue of the listener that the open call
 * tears down: inet_csk_listen_stop disconnects it without calling tcp_close.
 */
static __always_inline bool child_of(const struct call *call, const struct sock *sk)
{
	return call && call->event.course.before == TCP_LISTEN && call->sk != (u64)sk &&
	       !READ(sk, sk_socket) &&
	       call->event.course.local_port ==
		       bpf_ntohs(READ((const struct inet_sock *)sk, inet_sport));
}

/* has_sent_fin: or has ended without one. */
static __always_inline bool has_sent_fin(u8 state)
{
	return state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT && state != TCP_SYN_SENT &&
	       state != TCP_SYN_RECV && state != TCP_LISTEN;
}

/* may_wait: a close waits for so long at most, in jiffies. */
static __always_inline void may_wait(struct call *call, u64 timeout)
{
	call->event.course.timeout_jiffies = timeout;
	if (timeout)
		call->began_jiffies = bpf_jiffies64();
}

/* tcp_close, before it takes the socket lock: when the wait for it began, if a task
 * holds it, and, on kernels without __tcp_close, what there is to read. */
static __always_inline int enter_close(void *ctx, const struct sock *sk, u64 timeout)
{
	struct call *call;

	if (has_locked_close) {
		/* A note that no close takes up would stay for the next of this task. */
		if (held_by_task(sk) && wanted(sk, true))
			enter_call(sk);
		return 0;
	}
	call = begin_remembered(ctx, sk, EVENT_CLOSE);
	if (call)
		may_wait(call, timeout);
	return 0;
}

/* __tcp_close, under the lock: the moment of decision. MPTCP subflows come
 * here without tcp_close. */
static __always_inline int enter_locked_close(void *ctx, const struct sock *sk, u64 timeout)
{
	struct call *call;

	if (is_mptcp_subflow(sk) && has_sent_fin(state_of(sk)))
		return 0; /* taken down when it had ended: not the application's close */
	call = begin_captured(ctx, sk, EVENT_CLOSE);
	if (!call)
		return 0;
	may_wait(call, timeout);
	call->event.course.flags |= UNDER_LOCK;
	if (!has_disconnect)
		remember(call, sk);
	return 0;
}

/* __tcp_close returns: still locked and referenced. */
static __always_inline int leave_locked_close(void)
{
	struct call *call = open_call();

	if (!call || call->event.course.kind != EVENT_CLOSE)
		return 0;
	capture_after(&call->event, sock_at(call->sk));
	end_call(call, bpf_ktime_get_ns());
	return 0;
}

/* tcp_close returns, on kernels without __tcp_close: sk may be freed by now. */
static __always_inline int leave_close(void)
{
	struct call *call = open_call();

	if (!call || call->event.course.kind != EVENT_CLOSE)
		return 0;
	end_call(call, bpf_ktime_get_ns());
	return 0;
}

/* inet_shutdown, before the lock. how: 0 read, 1 write, 2 both. UDP and MPTCP
 * sockets come this way, too. */
static __always_inline int enter_shutdown(void *ctx, const struct socket *socket, u32 how)
{
	const struct sock *sk = sock_at(BPF_CORE_READ(socket, sk));
	struct call *call;

	if (!sk || !is_tcp(sk))
		return 0;
	call = begin_remembered(ctx, sk, EVENT_SHUTDOWN);
	if (call)
		call->event.course.how = how + 1;
	return 0;
}

/* tcp_shutdown, under the lock. how: a mask. Softirq comes here to send a FIN
 * that had to wait for the handshake: tcp_send_fin tells of that one. */
static __always_inline int enter_tcp_shutdown(void *ctx, const struct sock *sk, u32 how)
{
	struct call *call = open_call();

	if (call_is_on(call, sk)) {
		u8 mask = call->event.course.shutdown_mask;

		capture_decision(&call->event, sk);
		call->event.course.shutdown_mask =
			mask; /* inet_shutdown has set its own bits by now */
	} else {
		if (has_inet_shutdown || !held_by_task(sk))
			return 0;
		call = begin_remembered(ctx, sk, EVENT_SHUTDOWN);
		if (!call)
			return 0;
		call->event.course.how = how;
	}
	call->event.course.flags |= UNDER_LOCK | REACHED_TCP;
	return 0;
}

/* inet_shutdown (or tcp_shutdown) returns: the file is still referenced. */
static __always_inline int leave_shutdown(s32 result)
{
	struct call *call = open_call();

	if (!call || call->event.course.kind != EVENT_SHUTDOWN)
		return 0;
	call->event.course.result = result;
	capture_after(&call->event, sock_at(call->sk));
	end_call(call, bpf_ktime_get_ns());
	return 0;
}

/* What is known of a fact that stands alone, besides its socket. */
struct fact {
	u64 listener; /* all as in struct event */
	u64 caller;
	u32 flags;
	u32 reason;
	u32 segment;
	u8 kind;
	u8 at_rst;
	u8 segment_flags;
	u8 sigpipe;
	u8 with_stack; /* of the kernel, taken once the filter lets the fact pass */
	u8 pad[7];
};

/* alone: a fact about sk outside of any call on it; ctx is the program's. */
static __noinline int alone(void *ctx, const struct sock *sk, const struct fact *fact)
{
	bool by_task = held_by_task(sk) || fact->listener;
	struct event *e;
	u64 now;

	if (!wanted(sk, by_task))
		return 0;
	now = bpf_ktime_get_ns();
	if (want_stacks && by_task)
		send_stack(ctx, sk, now);
	e = new_event(fact->kind, now);
	if (!e)
		return 0;
	e->course.flags = fact->flags | (by_task ? TASK_CONTEXT : 0);
	e->parties.listener = fact->listener;
	e->course.kernel_reason = fact->reason;
	if (fact->with_stack)
		capture_kernel_stack(e, ctx, fact->caller);
	if (by_task)
		capture_task(e);
	capture_socket(e, sk);
	capture_owner(e, sk);
	if (fact->kind == EVENT_PEER_FIN) {
		capture_peer_fin(e, sk);
	} else {
		capture_decision(e, sk);
		capture_timers(e, sk);
	}
	e->course.at_rst = fact->at_rst;
	e->parties.segment = fact->segment;
	e->course.segment_flags = fact->segment_flags;
	e->course.how = fact->sigpipe;
	send(e);
	return 0;
}

static __always_inline int fin_alone(void *ctx, const struct sock *sk)
{
	struct fact fact = { .kind = EVENT_FIN, .flags = SENT_FIN };

	return alone(ctx, sk, &fact);
}

static __always_inline int on_fin(void *ctx, const struct sock *sk)
{
	struct call *call = open_call();

	if (!call_is_on(call, sk))
		return fin_alone(ctx, sk);
	call->event.course.flags |= SENT_FIN;
	call->event.course.after = state_of(sk);
	return 0;
}

/*
 * tcp_disconnect, under the lock: zeroes the counters, resets if the state asks
 * for it. Part of a close or a shutdown, of the end of a child, or a call of
 * its own. A connect(2) that failed also comes here, in CLOSE: nothing to tell.
 */
static __always_inline int enter_disconnect(void *ctx, const struct sock *sk)
{
	struct call *call = open_call();

	if (call_is_on(call, sk)) {
		if (!call->remembered)
			remember(call, sk);
		call->event.course.flags |= DISCONNECTED;
	} else if (child_of(call, sk)) {
		call->event.course.children_dropped++;
		call->child_before = state_of(sk);
	} else {
		if (state_of(sk) == TCP_CLOSE || !held_by_task(sk))
			return 0;
		call = begin_remembered(ctx, sk, EVENT_DISCONNECT);
		if (!call)
			return 0;
		call->event.course.flags |= UNDER_LOCK | DISCONNECTED;
	}
	call->disconnects++;
	return 0;
}

/* tcp_disconnect returns: of a child, of the socket of a call, or its own. */
static __always_inline int leave_disconnect(s32 result)
{
	struct call *call = open_call();

	if (!call || !call->disconnects)
		return 0;
	if (--call->disconnects || call->event.course.kind != EVENT_DISCONNECT)
		return 0;
	call->event.course.result = result;
	capture_after(&call->event, sock_at(call->sk));
	end_call(call, bpf_ktime_get_ns());
	return 0;
}

/* is_full: not one of the small sockets that stand in for a handshake or for
 * TIME_WAIT, of which only struct sock_common is there. */
static __always_inline bool is_full(const struct sock *sk)
{
	u8 state = state_of(sk);

	return state != TCP_TIME_WAIT && state != TCP_NEW_SYN_RECV;
}

/* tcp_abort, before it takes the lock: SOCK_DESTROY (ss -K), bpf_sock_destroy. */
static __always_inline int enter_abort(void *ctx, const struct sock *sk, s32 error)
{
	struct call *call;

	if (!is_full(sk) || !is_tcp(sk))
		return 0;
	call = begin_remembered(ctx, sk, EVENT_ABORT);
	if (!call)
		return 0;
	capture_owner(&call->event, sk);
	capture_timers(&call->event, sk);
	call->event.course.sk_err = error;
	return 0;
}

static __always_inline int leave_abort(s32 result)
{
	struct call *call = open_call();

	if (!call || call->event.course.kind != EVENT_ABORT)
		return 0;
	call->event.course.result = result;
	capture_after(&call->event, sock_at(call->sk));
	end_call(call, bpf_ktime_get_ns());
	return 0;
}

/* ended_in_error: an end that is not the orderly exchange of FINs. */
static __always_inline bool ended_in_error(u8 before, s32 error)
{
	return error || before == TCP_ESTABLISHED || before == TCP_SYN_SENT ||
	       before == TCP_SYN_RECV || before == TCP_CLOSE_WAIT || before == TCP_FIN_WAIT1;
}

/*
 * done: a segment or a timer ends sk; sk_err is set before. In a handshake a
 * RST and an ICMP error give the same errno, and the application may have taken
 * the error away by now: then only the stack tells. ctx is the program's, caller
 * what a stack taken there lacks.
 */
static __always_inline int done(void *ctx, u64 caller, const struct sock *sk, u8 before)
{
	struct fact fact = { .kind = EVENT_DONE, .caller = caller };
	s32 error = READ(sk, sk_err);

	if (!ended_in_error(before, error))
		return 0;
	if (!error || before == TCP_SYN_SENT || before == TCP_SYN_RECV)
		fact.with_stack = 1;
	return alone(ctx, sk, &fact);
}

/* tcp_done: what happens inside a call is told by the call. */
static __always_inline int on_done(void *ctx, u64 caller, const struct sock *sk)
{
	u8 state = state_of(sk);
	struct call *call;

	if (state == TCP_CLOSE || !ended_in_error(state, READ(sk, sk_err)))
		return 0; /* the common case, before anything is looked up */
	call = open_call();
	if (call_is_on(call, sk) || child_of(call, sk))
		return 0;
	return done(ctx, caller, sk, state);
}

/*
 * tcp_fin: the peer's FIN was taken, in order. The state is still the old one.
 * One that ends the connection after this side's own asks nothing of anybody,
 * and is told only to who wants them all.
 */
static __always_inline int on_peer_fin(void *ctx, const struct sock *sk)
{
	struct fact fact = { .kind = EVENT_PEER_FIN };

	if (!want_peer_fins && state_of(sk) == TCP_FIN_WAIT2)
		return 0;
	return alone(ctx, sk, &fact);
}

/* reset_in_call: a segment may have come between entry and decision, so what
 * counts is what is unread now. */
static __always_inline void reset_in_call(struct call *call, const struct sock *sk, u32 reason)
{
	struct event *e = &call->event;
	const struct tcp_sock *tp = (const void *)sk;

	e->course.after = state_of(sk);
	if (e->course.kind == EVENT_ABORT) {
		e->course.before = e->course.after; /* at entry it was read without the lock */
		e->course.after = TCP_CLOSE;	    /* tcp_done follows */
	}
	if (!(e->course.flags & SENT_FIN)) {
		e->course.receive_queue = READ(tp, rcv_nxt) - READ(tp, copied_seq);
		capture_flags(e, sk);
	}
	e->course.flags |= SENT_RST;
	e->course.kernel_reason = reason;
	e->course.output_left = READ(tp, write_seq) - READ(tp, snd_una);
	e->course.at_rst = e->course.before;
	if (e->course.flags & SENT_FIN)
		e->course.at_rst =
			e->course.before == TCP_CLOSE_WAIT ? TCP_LAST_ACK : TCP_FIN_WAIT1;
	/* FIN_WAIT2: our FIN is acknowledged, which may have happened meanwhile. */
	if (e->course.at_rst == TCP_FIN_WAIT1 && !e->course.output_left)
		e->course.at_rst = TCP_FIN_WAIT2;
}

/* on_active_reset; ctx is the program's, caller what a stack taken there lacks. */
static __always_inline int on_active_reset(void *ctx, u64 caller, const struct sock *sk, u32 reason)
{
	struct fact fact = {
		.kind = EVENT_RESET, .flags = SENT_RST, .reason = reason, .caller = caller
	};
	struct call *call = open_call();

	if (call_is_on(call, sk) && !call->reported) {
		reset_in_call(call, sk, reason);
		if (by_tracepoints && call->event.course.kind == EVENT_DISCONNECT)
			end_call(call, 0); /* nothing of it comes after */
		return 0;
	}
	if (call_is_on(call, sk)) {
		fact.flags |= IN_REPORTED_CALL;
		fact.at_rst = call->last_state;
	} else if (child_of(call, sk)) {
		call->event.course.children_reset++;
		fact.listener = call->sk;
		fact.at_rst = call->child_before;
	} else {
		/* Nobody's call: who called tcp_send_active_reset is the cause. */
		fact.with_stack = 1;
	}
	return alone(ctx, sk, &fact);
}

#endif
