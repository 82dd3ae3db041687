/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Handlers of fentry and kprobe mode. They follow a close or a shutdown from entry to return
 * and add what happens to its socket meanwhile. What happens outside of a call is a record of
 * its own.
 */
#ifndef CALLS_H
#define CALLS_H

/*
 * call_is_on reports whether what happens to sk now is part of this call. A segment or a timer
 * of the same socket may have interrupted the task: before the call took the lock, while it
 * sleeps or, in tracepoint mode, after it. That is not part of the call, and then no task holds
 * the lock.
 */
static __always_inline bool call_is_on(const struct call *call, const struct sock *sk)
{
	return call && call->sk == (u64)sk && held_by_task(sk);
}

/*
 * call_is_of reports the same where the call may be over: tracepoint mode does not see its return,
 * and the next socket of the task often has the same address and, in a server, the same port. The
 * first sequence number does not change until a disconnect, after which a call expects nothing.
 */
static __always_inline bool call_is_of(const struct call *call, const struct sock *sk)
{
	return call_is_on(call, sk) && (!by_tracepoints || !call->reported ||
					call->event.progress.first_sent == first_sent_of(sk));
}

/*
 * noted_close returns the noted close that the current task is in on sk, or NULL. It is not another
 * socket at the same address if the first sequence number is the same.
 */
static __always_inline struct noted *noted_close(const struct sock *sk)
{
	struct noted *noted = current_noted();

	if (!noted || noted->sk != (u64)sk || !held_by_task(sk) ||
	    noted->first_sent != first_sent_of(sk))
		return NULL;
	return noted;
}

/*
 * child_of reports whether sk is in the accept queue of the listener that the open call
 * closes: inet_csk_listen_stop disconnects it without calling tcp_close, while the task holds
 * the lock of the listener.
 */
static __always_inline bool child_of(const struct call *call, const struct sock *sk)
{
	return call && call->event.progress.before == TCP_LISTEN && call->sk != (u64)sk &&
	       !READ(sk, sk_socket) && held_by_task(sock_at(call->sk)) &&
	       call->event.progress.local_port ==
		       bpf_ntohs(READ((const struct inet_sock *)sk, inet_sport));
}

/* has_sent_fin reports whether a socket in this state has sent a FIN, or is closed. */
static __always_inline bool has_sent_fin(u8 state)
{
	return state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT && state != TCP_SYN_SENT &&
	       state != TCP_SYN_RECV && state != TCP_LISTEN;
}

/* set_timeout sets how long a close may wait, in jiffies. */
static __always_inline void set_timeout(struct call *call, u64 timeout)
{
	call->event.progress.timeout_jiffies = timeout;
	if (timeout)
		call->began_jiffies = bpf_jiffies64();
}

/* enter_close handles the entry of tcp_close, before it takes the socket lock. If a task holds
 * the lock, it notes when the wait for it began. On kernels without __tcp_close it reads the
 * evidence. */
static __always_inline int enter_close(void *ctx, const struct sock *sk, u64 timeout)
{
	struct call *call;

	if (has_locked_close) {
		/* Without this check, a note that no close uses would remain for the
		 * next close of this task. In the quiet tier no program sits here. */
		if (held_by_task(sk) && wanted(sk, true))
			enter_call(sk);
		return 0;
	}
	call = begin_with_endpoints(ctx, sk, EVENT_CLOSE);
	if (call)
		set_timeout(call, timeout);
	return 0;
}

/* report_locked_close begins the call of a close that is reported. */
static __noinline int report_locked_close(void *ctx, const struct sock *sk, u64 timeout)
{
	struct call *call;

	if (is_mptcp_subflow(sk) && has_sent_fin(state_of(sk)))
		return 0; /* removed after its end: not the application's close */
	call = begin_captured(ctx, sk, EVENT_CLOSE);
	if (!call)
		return 0;
	set_timeout(call, timeout);
	call->event.progress.flags |= UNDER_LOCK;
	if (!has_disconnect)
		capture_endpoints(call, sk);
	return 0;
}

/* enter_locked_close handles the entry of __tcp_close, under the lock, where the kernel decides.
 * MPTCP subflows arrive here without tcp_close. */
static __always_inline int enter_locked_close(void *ctx, const struct sock *sk, u64 timeout)
{
	if (counts_closes() && !timeout && note_close(sk))
		return 0;
	return report_locked_close(ctx, sk, timeout);
}

/*
 * infer_fin adds the FIN that a call has sent, if no program sits on tcp_send_fin. Under the lock,
 * tcp_close_state sends it in these states, unless the call resets or disconnects.
 */
static __always_inline void infer_fin(struct call *call)
{
	struct progress *p = &call->event.progress;

	if (!infer_fins || p->flags & (SENT_FIN | SENT_RST | DISCONNECTED))
		return;
	if (p->before != TCP_ESTABLISHED && p->before != TCP_SYN_RECV &&
	    p->before != TCP_CLOSE_WAIT)
		return;
	p->flags |= SENT_FIN;
	p->after = fin_state(p->before);
}

/* end_locked_close reports a close that returns. */
static __noinline int end_locked_close(void)
{
	struct call *call = open_call();

	if (!call || call->event.progress.kind != EVENT_CLOSE)
		return 0;
	infer_fin(call);
	capture_after(&call->event, sock_at(call->sk));
	end_call(call, bpf_ktime_get_ns());
	return 0;
}

/* leave_locked_close handles the return of __tcp_close: sk is still locked and referenced. */
static __always_inline int leave_locked_close(void)
{
	return leave_noted() ? 0 : end_locked_close();
}

/* leave_close handles the return of tcp_close on kernels without __tcp_close: sk may already be
 * freed. */
static __always_inline int leave_close(void)
{
	struct call *call = open_call();

	if (!call || call->event.progress.kind != EVENT_CLOSE)
		return 0;
	end_call(call, bpf_ktime_get_ns());
	return 0;
}

/* enter_shutdown handles the entry of inet_shutdown, before the lock. how: 0 read, 1 write, 2
 * both. UDP and MPTCP sockets also pass here. */
static __always_inline int enter_shutdown(void *ctx, const struct socket *socket, u32 how)
{
	const struct sock *sk = sock_at(BPF_CORE_READ(socket, sk));
	struct call *call;

	if (!sk || !is_tcp(sk))
		return 0;
	call = begin_with_endpoints(ctx, sk, EVENT_SHUTDOWN);
	if (call)
		call->event.progress.how = how + 1;
	return 0;
}

/* leave_shutdown handles the return of inet_shutdown or tcp_shutdown: the file is still
 * referenced. */
static __always_inline int leave_shutdown(s32 result)
{
	struct call *call = open_call();

	if (!call || call->event.progress.kind != EVENT_SHUTDOWN)
		return 0;
	call->event.progress.result = result;
	/* In SYN_RECV the FIN may be deferred (6.9). */
	if (call->event.progress.flags & REACHED_TCP && call->event.progress.how & 2 &&
	    has_sent_fin(state_of(sock_at(call->sk))))
		infer_fin(call);
	capture_after(&call->event, sock_at(call->sk));
	end_call(call, bpf_ktime_get_ns());
	return 0;
}

/* fin_follows reports whether this tcp_shutdown sends a FIN that no other program reports. */
static __always_inline bool fin_follows(const struct sock *sk, u32 how)
{
	u8 state = state_of(sk);

	return infer_fins && how & SEND_SHUTDOWN &&
	       (state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT);
}

/* enter_tcp_shutdown handles the entry of tcp_shutdown, under the lock. how: a mask. Softirq
 * calls it to send a FIN that had to wait for the handshake, and MPTCP for its subflows: tcp_send_fin
 * reports that one. */
static __always_inline int enter_tcp_shutdown(void *ctx, const struct sock *sk, u32 how)
{
	struct call *call = open_call();

	if (call_is_on(call, sk)) {
		u8 mask = call->event.progress.shutdown_mask;

		capture_decision(&call->event, sk);
		call->event.progress.shutdown_mask =
			mask; /* inet_shutdown has already set its bits */
	} else {
		if (has_inet_shutdown || !held_by_task(sk))
			return fin_follows(sk, how) ? report_standalone_fin(ctx, sk) : 0;
		call = begin_with_endpoints(ctx, sk, EVENT_SHUTDOWN);
		if (!call)
			return 0;
		call->event.progress.how = how;
	}
	call->event.progress.flags |= UNDER_LOCK | REACHED_TCP;
	return 0;
}

static __always_inline int on_fin(void *ctx, const struct sock *sk)
{
	struct call *call;

	if (noted_close(sk))
		return 0;
	call = open_call();
	if (!call_is_on(call, sk))
		return report_standalone_fin(ctx, sk);
	call->event.progress.flags |= SENT_FIN;
	call->event.progress.after = state_of(sk);
	return 0;
}

/*
 * enter_disconnect handles the entry of tcp_disconnect, under the lock: it zeroes the counters,
 * and sends a RST in some states. It is part of a close or a shutdown, of the end of a child, or
 * a call of its own. A failed connect(2) also calls it, in CLOSE: that is not reported.
 */
static __always_inline int enter_disconnect(void *ctx, const struct sock *sk)
{
	struct noted *noted = noted_close(sk);
	struct call *call = noted ? unnote_disconnect(sk, noted) : open_call();

	if (call_is_on(call, sk)) {
		if (!call->has_endpoints)
			capture_endpoints(call, sk);
		call->event.progress.flags |= DISCONNECTED;
	} else if (child_of(call, sk)) {
		call->event.progress.children_dropped++;
		call->child_before = state_of(sk);
	} else {
		if (state_of(sk) == TCP_CLOSE || !held_by_task(sk))
			return 0;
		call = begin_with_endpoints(ctx, sk, EVENT_DISCONNECT);
		if (!call)
			return 0;
		call->event.progress.flags |= UNDER_LOCK | DISCONNECTED;
	}
	call->disconnects++;
	return 0;
}

/* leave_disconnect handles the return of tcp_disconnect in all these cases. */
static __always_inline int leave_disconnect(s32 result)
{
	struct call *call = open_call();

	if (!call || !call->disconnects)
		return 0;
	if (--call->disconnects || call->event.progress.kind != EVENT_DISCONNECT)
		return 0;
	call->event.progress.result = result;
	capture_after(&call->event, sock_at(call->sk));
	end_call(call, bpf_ktime_get_ns());
	return 0;
}

/* is_full reports whether sk is a full socket, not a request or TIME_WAIT socket, which has only
 * struct sock_common. */
static __always_inline bool is_full(const struct sock *sk)
{
	u8 state = state_of(sk);

	return state != TCP_TIME_WAIT && state != TCP_NEW_SYN_RECV;
}

/* enter_abort handles the entry of tcp_abort, before it takes the lock: SOCK_DESTROY (ss -K),
 * bpf_sock_destroy. */
static __always_inline int enter_abort(void *ctx, const struct sock *sk, s32 error)
{
	struct call *call;

	if (!is_full(sk) || !is_tcp(sk))
		return 0;
	call = begin_with_endpoints(ctx, sk, EVENT_ABORT);
	if (!call)
		return 0;
	capture_owner(&call->event, sk);
	capture_timers(&call->event, sk);
	call->event.progress.sk_err = error;
	return 0;
}

static __always_inline int leave_abort(s32 result)
{
	struct call *call = open_call();

	if (!call || call->event.progress.kind != EVENT_ABORT)
		return 0;
	call->event.progress.result = result;
	capture_after(&call->event, sock_at(call->sk));
	end_call(call, bpf_ktime_get_ns());
	return 0;
}

/* ended_in_error reports whether the connection ended without the orderly exchange of FINs. */
static __always_inline bool ended_in_error(u32 before, s32 error)
{
	return error || before == TCP_ESTABLISHED || before == TCP_SYN_SENT ||
	       before == TCP_SYN_RECV || before == TCP_CLOSE_WAIT || before == TCP_FIN_WAIT1;
}

/*
 * report_done reports that a segment or a timer ended sk. sk_err was set before. During a
 * handshake a RST and an ICMP error cause the same errno, and the application may have cleared
 * the error: then only the stack distinguishes them. ctx is the program's, caller is the frame
 * that a stack taken there lacks.
 */
static __always_inline int report_done(void *ctx, u64 caller, const struct sock *sk, u32 before,
				       u32 flags)
{
	struct fact fact;
	s32 error = READ(sk, sk_err);

	if (!ended_in_error(before, error))
		return 0;
	fact = (struct fact){ .kind = EVENT_DONE, .caller = caller, .flags = flags };
	if (!error || before == TCP_SYN_SENT || before == TCP_SYN_RECV)
		fact.with_stack = 1;
	return report_standalone(ctx, sk, &fact);
}

/*
 * ended_in_call reports whether a segment that arrived while a close or a shutdown held the lock
 * ended the socket: tcp_reset sets the error, and these calls do not. The call continues, and
 * its record does not mention that.
 */
static __always_inline bool ended_in_call(const struct call *call, s32 error)
{
	u8 kind = call->event.progress.kind;

	return (kind == EVENT_CLOSE || kind == EVENT_SHUTDOWN) && error &&
	       error != call->event.progress.sk_err;
}

/* done_in_error handles a tcp_done of a connection that ended in error. What a call does itself is in
 * its own record. */
static __noinline int done_in_error(void *ctx, u64 caller, const struct sock *sk, u32 state)
{
	struct call *call;

	if (noted_close(sk))
		return READ(sk, sk_err) ? report_done(ctx, caller, sk, state, ENDED_IN_CALL) : 0;
	call = open_call();
	if (child_of(call, sk))
		return 0;
	if (call_is_on(call, sk))
		return ended_in_call(call, READ(sk, sk_err))
			       ? report_done(ctx, caller, sk, state, ENDED_IN_CALL)
			       : 0;
	return report_done(ctx, caller, sk, state, 0);
}

/* on_done handles tcp_done. Most connections that it ends did not end in error. */
static __always_inline int on_done(void *ctx, u64 caller, const struct sock *sk)
{
	u32 state = state_of(sk);

	if (state == TCP_CLOSE || !ended_in_error(state, READ(sk, sk_err)))
		return 0;
	return done_in_error(ctx, caller, sk, state);
}

/*
 * on_peer_fin handles tcp_fin: the FIN of the peer was received in order. The state has not
 * changed yet. A FIN that ends the connection after this side's FIN needs no action, so it is
 * reported only with --close-wait 0s.
 */
static __always_inline int on_peer_fin(void *ctx, const struct sock *sk, u32 state)
{
	if (!want_peer_fins && state == TCP_FIN_WAIT2)
		return 0;
	return note_fin(sk, state) ? 0 : report_peer_fin(ctx, sk);
}

/* reset_in_call adds a RST to a call. A segment may have arrived between entry and decision, so
 * it reads again what is unread. */
static __always_inline void reset_in_call(struct call *call, const struct sock *sk, u32 reason)
{
	struct event *e = &call->event;
	const struct tcp_sock *tp = (const void *)sk;

	/* After the FIN the socket becomes an orphan; a close that resets at once does so before. */
	if (infer_fins && e->progress.kind == EVENT_CLOSE && !(e->progress.flags & ORPHAN) &&
	    sock_flag(READ(sk, __sk_common.skc_flags), SOCK_DEAD))
		infer_fin(call);
	e->progress.after = state_of(sk);
	if (e->progress.kind == EVENT_ABORT) {
		e->progress.before = e->progress.after; /* read without the lock at entry */
		e->progress.after = TCP_CLOSE;		/* tcp_done follows */
	}
	if (!(e->progress.flags & SENT_FIN)) {
		e->progress.receive_queue = READ(tp, rcv_nxt) - READ(tp, copied_seq);
		capture_flags(e, sk);
	}
	e->progress.flags |= SENT_RST;
	e->progress.kernel_reason = reason;
	e->progress.output_left = READ(tp, write_seq) - READ(tp, snd_una);
	e->progress.at_rst = e->progress.before;
	if (e->progress.flags & SENT_FIN)
		e->progress.at_rst =
			e->progress.before == TCP_CLOSE_WAIT ? TCP_LAST_ACK : TCP_FIN_WAIT1;
	/* FIN_WAIT2: this side's FIN may have been acknowledged meanwhile. */
	if (e->progress.at_rst == TCP_FIN_WAIT1 && !e->progress.output_left)
		e->progress.at_rst = TCP_FIN_WAIT2;
}

/* on_active_reset handles tcp_send_active_reset. ctx and caller are as in report_done. */
static __always_inline int on_active_reset(void *ctx, u64 caller, const struct sock *sk, u32 reason)
{
	struct fact fact = {
		.kind = EVENT_RESET, .flags = SENT_RST, .reason = reason, .caller = caller
	};
	struct noted *noted = noted_close(sk);
	struct call *call = noted ? unnote_close(sk, noted) : open_call();
	bool in_call = call_is_of(call, sk);

	if (in_call && !call->reported) {
		reset_in_call(call, sk, reason);
		if (by_tracepoints && call->event.progress.kind == EVENT_DISCONNECT)
			end_call(call, 0); /* nothing follows */
		return 0;
	}
	if (in_call) {
		fact.flags |= IN_REPORTED_CALL;
		fact.at_rst = call->last_state;
	} else if (child_of(call, sk)) {
		call->event.progress.children_reset++;
		fact.listener = call->sk;
		fact.at_rst = call->child_before;
	} else {
		/* No call did it: the caller of tcp_send_active_reset is the cause. */
		fact.with_stack = 1;
	}
	return report_standalone(ctx, sk, &fact);
}

#endif
