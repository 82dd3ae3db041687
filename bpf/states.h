/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Handlers of tracepoint mode. It sees no calls, so they derive the same facts from changes of
 * state. That tracepoint fires under the socket lock, before the state is stored.
 */
#ifndef STATES_H
#define STATES_H

static __always_inline bool awaits_fin_ack(u8 state)
{
	return state == TCP_FIN_WAIT1 || state == TCP_CLOSING || state == TCP_LAST_ACK;
}

/* moves_to_fin reports whether tcp_send_fin follows this change of state (tcp_close_state). */
static __always_inline bool moves_to_fin(u8 before, u8 after)
{
	return before != after && (after == TCP_FIN_WAIT1 || after == TCP_LAST_ACK);
}

/*
 * unsent_after_fin predicts write_seq - snd_nxt after the tcp_send_fin that follows, which is
 * not traced. The kernel sends a FIN immediately if it and the data before it fit into the
 * peer's window and the congestion window; older kernels ignore the latter without data.
 */
static __always_inline u32 unsent_after_fin(const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;
	u32 snd_nxt = READ(tp, snd_nxt);
	u32 unsent = READ(tp, write_seq) - snd_nxt + 1;
	u32 window = READ(tp, snd_una) + READ(tp, snd_wnd) - snd_nxt;
	u32 mss = READ(tp, mss_cache);
	u32 in_flight = READ(tp, packets_out) + READ(tp, retrans_out) - READ(tp, sacked_out) -
			READ(tp, lost_out);

	if (mss)
		in_flight += unsent / mss;
	if (in_flight < READ(tp, snd_cwnd) && (s32)(window - unsent) >= 0)
		return 0;
	return unsent;
}

/* linger_wait_over reports whether a close that sleeps on sk under SO_LINGER will wake up. */
static __always_inline bool linger_wait_over(const struct sock *sk, u8 before, u8 after)
{
	unsigned long bits;

	if (!awaits_fin_ack(before) || awaits_fin_ack(after))
		return false;
	bits = READ(sk, __sk_common.skc_flags);
	return sock_flag(bits, SOCK_LINGER) && !sock_flag(bits, SOCK_DEAD) && file_is_closing(sk) &&
	       READ(sk, sk_lingertime);
}

/* report_wait_over reports that a change of state or a signal (after: 0) ended the wait. */
static __always_inline void report_wait_over(const struct sock *sk, u8 after, s32 signal)
{
	const struct tcp_sock *tp = (const void *)sk;
	struct event *e = new_event(EVENT_WAIT_OVER, bpf_ktime_get_ns());

	if (!e)
		return;
	e->endpoints.sock = (u64)sk;
	e->progress.result = signal;
	e->progress.after = after;
	e->progress.output_left = READ(tp, write_seq) - READ(tp, snd_una);
	send(e);
}

/* report_open sends the record of the open call now, because nothing is certain to follow, and
 * keeps the call for what may follow. */
static __always_inline void report_open(struct call *call)
{
	submit(call);
	call->reported = 1;
}

/* note_fin_close is note_close, out of line: two handlers share the registers of a program here. */
static __noinline int note_fin_close(const struct sock *sk)
{
	return note_close(sk);
}

/* state_in_close handles the first change of state inside a close. */
static __always_inline int state_in_close(void *ctx, const struct sock *sk, u8 before, u8 after)
{
	struct call *call;
	struct event *e;

	if (counts_closes() && moves_to_fin(before, after) && note_fin_close(sk))
		return 0;
	call = begin_captured(ctx, sk, EVENT_CLOSE);
	if (!call)
		return 0;
	e = &call->event;
	e->progress.flags |= UNDER_LOCK | RETURN_UNSEEN;
	e->progress.after = after;
	call->last_state = after;
	if (moves_to_fin(before, after)) {
		e->progress.flags |= SENT_FIN;
		e->progress.unsent_left = unsent_after_fin(sk);
	}
	call->began_jiffies = bpf_jiffies64();
	call->waiting = awaits_fin_ack(after) && (e->progress.flags & LINGER_ON) &&
			e->progress.linger_jiffies;
	/* After CLOSE tcp_destroy_sock follows, and maybe a RST before it; after FIN_WAIT2 with a
	 * negative linger2, both do. */
	if (after == TCP_CLOSE || (after == TCP_FIN_WAIT2 && e->progress.linger2 < 0))
		return capture_endpoints(call, sk);
	report_open(call);
	return 0;
}

/* resets_on_disconnect reports whether tcp_disconnect sends a RST in this state. */
static __always_inline bool resets_on_disconnect(const struct event *e, u8 before)
{
	if (e->progress.flags & REPAIR)
		return false;
	if (before == TCP_CLOSING || before == TCP_LAST_ACK)
		return e->progress.unsent;
	return before != TCP_SYN_SENT;
}

/* disconnect_by_task handles connect(AF_UNSPEC) and other callers of tcp_disconnect. */
static __always_inline int disconnect_by_task(void *ctx, const struct sock *sk, u8 before)
{
	struct call *call = begin_captured(ctx, sk, EVENT_DISCONNECT);

	if (!call)
		return 0;
	call->event.progress.flags |= UNDER_LOCK | RETURN_UNSEEN | DISCONNECTED;
	call->event.progress.after = TCP_CLOSE;
	call->last_state = TCP_CLOSE;
	if (resets_on_disconnect(&call->event, before))
		return capture_endpoints(call, sk);
	report_open(call);
	return 0;
}

/* shutdown_by_task handles shutdown(2), and connect(2) on a listener or a connecting socket. Go
 * code distinguishes them by the system call. */
static __always_inline int shutdown_by_task(void *ctx, const struct sock *sk, u8 after, u32 flags)
{
	struct call *call = begin_captured(ctx, sk, EVENT_SHUTDOWN);

	if (!call)
		return 0;
	call->event.progress.flags |= UNDER_LOCK | RETURN_UNSEEN | flags;
	call->event.progress.after = after;
	call->event.progress.how = (current_user_call().arg2 & 3) + 1;
	if (flags & SENT_FIN)
		call->event.progress.unsent_left = unsent_after_fin(sk);
	report_open(call);
	if (call->event.progress.before != TCP_LISTEN)
		close_call(call); /* a listener's children are reset next */
	return 0;
}

/* state_by_task handles a change in a task that holds the lock and is not closing. */
static __always_inline int state_by_task(void *ctx, const struct sock *sk, u8 before, u8 after)
{
	if (moves_to_fin(before, after))
		return shutdown_by_task(ctx, sk, after, SENT_FIN);
	if (after != TCP_CLOSE || before == TCP_CLOSE)
		return 0;
	if (READ(sk, sk_err))
		return report_done(ctx, 0, sk, before,
				   0); /* a segment from the backlog, or tcp_abort */
	if (before == TCP_SYN_SENT && !READ((const struct tcp_sock *)sk, packets_out))
		return 0; /* connect(2) fails before its SYN: no free port (EADDRNOTAVAIL) */
	if (before == TCP_LISTEN || before == TCP_SYN_SENT)
		return shutdown_by_task(ctx, sk, after, DISCONNECTED);
	/* The orderly end may also be caused by the backlog. */
	if (before == TCP_ESTABLISHED || before == TCP_CLOSE_WAIT || before == TCP_FIN_WAIT1 ||
	    before == TCP_SYN_RECV || in_connect())
		return disconnect_by_task(ctx, sk, before);
	return 0;
}

/* took_peer_fin reports whether tcp_fin causes the change: it sets SOCK_DONE before. */
static __always_inline bool took_peer_fin(const struct sock *sk, u8 before, u8 after)
{
	if (before == after)
		return false;
	if (after == TCP_CLOSE_WAIT || after == TCP_CLOSING)
		return true;
	return before == TCP_FIN_WAIT2 && after == TCP_CLOSE &&
	       sock_flag(READ(sk, __sk_common.skc_flags), SOCK_DONE);
}

/* continues reports whether a change belongs to the close that is open on sk. After the close made
 * sk an orphan, there is no other call on it. Before, softirq may have changed the state only if
 * the close waits under SO_LINGER. */
static __always_inline bool continues(const struct call *call, const struct sock *sk, u8 before,
				      u8 after)
{
	if (!call_is_of(call, sk) || call->event.progress.kind != EVENT_CLOSE)
		return false;
	if (sock_flag(READ(sk, __sk_common.skc_flags), SOCK_DEAD))
		return true;
	return before == call->last_state && before != after;
}

/* continues_noted reports the same of a close that was noted, and keeps the state. */
static __always_inline bool continues_noted(const struct sock *sk, u8 before, u8 after)
{
	struct noted *noted = noted_close(sk);

	if (!noted)
		return false;
	if (!sock_flag(READ(sk, __sk_common.skc_flags), SOCK_DEAD) &&
	    (before != last_state_of(noted) || before == after))
		return false;
	noted->last_state = after == TCP_CLOSE ? before : after;
	return true;
}

/* state_in_call handles a later change inside a close. call is NULL if the close was noted: then the
 * socket had no error. */
static __always_inline void state_in_call(void *ctx, struct call *call, const struct sock *sk,
					  u8 before, u8 after)
{
	s32 error = READ(sk, sk_err);

	if (after == TCP_CLOSE && (call ? ended_in_call(call, error) : error != 0))
		report_done(ctx, 0, sk, before, ENDED_IN_CALL);
	if (!call)
		return;
	if (call->waiting && !awaits_fin_ack(after)) {
		call->waiting = 0;
		report_wait_over(sk, after, 0);
	}
	if (!call->reported)
		call->event.progress.after = after;
	call->event.progress.at_rst = before;
	call->last_state = after == TCP_CLOSE ? before : after;
}

/* dropped_child reports whether the close of a listener disconnects sk. It makes sk an orphan
 * only after that, so an orphan needs no look-up, and most sockets are orphans here. */
static __always_inline bool dropped_child(const struct sock *sk, u8 before, u8 after)
{
	struct call *call;

	if (after != TCP_CLOSE || sock_flag(READ(sk, __sk_common.skc_flags), SOCK_DEAD))
		return false;
	call = open_call();
	if (!child_of(call, sk))
		return false;
	call->event.progress.children_dropped++;
	call->child_before = before;
	return true;
}

/* state_by_softirq handles a change that a segment or a timer caused. */
static __always_inline int state_by_softirq(void *ctx, const struct sock *sk, u8 before, u8 after)
{
	if (dropped_child(sk, before, after))
		return 0;
	if (linger_wait_over(sk, before, after))
		report_wait_over(sk, after, 0);
	if (moves_to_fin(before, after))
		return report_standalone_fin(ctx, sk); /* a deferred shutdown, or MPTCP */
	return after == TCP_CLOSE && before != TCP_CLOSE ? report_done(ctx, 0, sk, before, 0) : 0;
}

/* begins reports whether a connection or a listener begins: not an ending. The first three states are
 * ESTABLISHED, SYN_SENT and SYN_RECV. */
static __always_inline bool begins(u32 after)
{
	return after <= TCP_SYN_RECV || after == TCP_LISTEN;
}

/*
 * What most runs do not reach is a function of its own, so that they save no registers for it. It
 * reads the states from the context: as arguments, they are half as much work again for the
 * verifier, because each comparison narrows them.
 */
static __noinline int softirq_state(u64 *ctx)
{
	const struct sock *sk = sock_at(ctx[0]);
	u8 before = ctx[1], after = ctx[2];

	if (!is_tcp(sk))
		return 0;
	if (took_peer_fin(sk, before, after))
		on_peer_fin(ctx, sk, state_of(sk));
	return state_by_softirq(ctx, sk, before, after);
}

static __always_inline int on_softirq_state(u64 *ctx)
{
	return begins(ctx[2]) || held_by_task(sock_at(ctx[0])) ? 0 : softirq_state(ctx);
}

/* task_state is the same for a task that holds the lock. */
static __noinline int task_state(u64 *ctx)
{
	const struct sock *sk = sock_at(ctx[0]);
	u8 before = ctx[1], after = ctx[2];
	struct call *call;

	if (!is_tcp(sk))
		return 0;
	/* A call begins with its FIN: an earlier one does not continue. */
	bool noted = !moves_to_fin(before, after) && continues_noted(sk, before, after);
	call = noted || moves_to_fin(before, after) ? NULL : open_call();
	if (took_peer_fin(sk, before, after))
		on_peer_fin(ctx, sk, state_of(sk)); /* from the backlog */
	if (noted || continues(call, sk, before, after)) {
		state_in_call(ctx, call, sk, before, after);
		return 0;
	}
	if (after == TCP_CLOSE_WAIT)
		return 0; /* MPTCP took the FIN from the backlog before it closed */
	if (linger_wait_over(sk, before, after) && READ(sk, sk_err)) {
		/* Not this task's close: tcp_abort ends one that sleeps under SO_LINGER. */
		report_wait_over(sk, after, 0);
		return report_done(ctx, 0, sk, before, 0);
	}
	if (file_is_closing(sk))
		return state_in_close(ctx, sk, before, after);
	if (sock_flag(READ(sk, __sk_common.skc_flags), SOCK_DEAD)) {
		/* Not a close: an orphan that ends while a task holds its lock. Mark it, so that
		 * its tcp_destroy_sock is not mistaken for a close. */
		call = begin_call(sk, 0);
		if (call) {
			call->event.progress.first_sent = first_sent_of(sk);
			call->reported = 1;
		}
		return after == TCP_CLOSE ? report_done(ctx, 0, sk, before, 0) : 0;
	}
	return state_by_task(ctx, sk, before, after);
}

static __always_inline int on_task_state(u64 *ctx)
{
	return begins(ctx[2]) || !held_by_task(sock_at(ctx[0])) ? 0 : task_state(ctx);
}

static __noinline int destroyed_by_task(void *ctx, const struct sock *sk)
{
	struct noted *noted;
	struct call *call;

	if (!is_tcp(sk))
		return 0;
	noted = noted_close(sk);
	if (noted) {
		end_noted(noted);
		return 0;
	}
	call = open_call();
	if (call_is_of(call, sk) && call->reported &&
	    (!call->event.progress.kind || call->event.progress.kind == EVENT_CLOSE)) {
		close_call(call);
		return 0;
	}
	if (!call_is_on(call, sk) || call->reported) {
		if (is_mptcp_subflow(sk))
			return 0; /* taken down when it had ended: not the application's close */
		call = begin_captured(ctx, sk, EVENT_CLOSE); /* it was already in CLOSE */
		if (!call)
			return 0;
		call->event.progress.flags |= RETURN_UNSEEN;
	}
	call->event.progress.after = TCP_CLOSE;
	end_call(call, 0);
	return 0;
}

/* on_destroy handles the end of every close that leaves the socket in CLOSE. */
static __always_inline int on_destroy(void *ctx, const struct sock *sk)
{
	return held_by_task(sk) ? destroyed_by_task(ctx, sk) : 0;
}

/* may_wait reports whether the time of SO_LINGER of a close is not over yet. */
static __always_inline bool may_wait(const struct call *call)
{
	return call->waiting &&
	       bpf_jiffies64() - call->began_jiffies <= call->event.progress.linger_jiffies;
}

/* on_signal handles a signal that the task receives before it leaves a system call. */
static __always_inline int on_signal(s32 signal)
{
	struct call *call = open_call();

	if (!call || !may_wait(call))
		return 0;
	call->waiting = 0;
	report_wait_over(sock_at(call->sk), 0, signal);
	return 0;
}

#endif
