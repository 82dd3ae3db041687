/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The handlers of tracepoint mode: no call is seen, so the same facts are read
 * off the state changes, which fire under the socket lock and before the new
 * state is stored.
 */
#ifndef STATES_H
#define STATES_H

static __always_inline bool awaits_fin_ack(u8 state)
{
	return state == TCP_FIN_WAIT1 || state == TCP_CLOSING || state == TCP_LAST_ACK;
}

/* moves_to_fin: tcp_close_state goes this way only with a tcp_send_fin. */
static __always_inline bool moves_to_fin(u8 old, u8 new)
{
	return old != new && (new == TCP_FIN_WAIT1 || new == TCP_LAST_ACK);
}

/*
 * unsent_after_fin foretells write_seq - snd_nxt after the tcp_send_fin that
 * comes next, of which nothing is seen. A FIN leaves at once if it and what is
 * before it fit into the peer's window and into the congestion window; older
 * kernels let one without data pass the latter.
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

/* linger_wait_over: a close sleeps on sk under SO_LINGER and need not any more. */
static __always_inline bool linger_wait_over(const struct sock *sk, u8 old, u8 new)
{
	unsigned long bits = READ(sk, __sk_common.skc_flags);

	return awaits_fin_ack(old) && !awaits_fin_ack(new) && sock_flag(bits, SOCK_LINGER) &&
	       !sock_flag(bits, SOCK_DEAD) && file_is_closing(sk) && READ(sk, sk_lingertime);
}

/* report_wait_over: the wait is over by a change of state, or by a signal (new: 0). */
static __always_inline void report_wait_over(const struct sock *sk, u8 new, s32 signal)
{
	const struct tcp_sock *tp = (const void *)sk;
	struct event *e = new_event(EVENT_WAIT_OVER, bpf_ktime_get_ns());

	if (!e)
		return;
	e->parties.sock = (u64)sk;
	e->course.result = signal;
	e->course.after = new;
	e->course.output_left = READ(tp, write_seq) - READ(tp, snd_una);
	send(e);
}

/* report_open: sends the record of the open call now, as nothing certain comes
 * later, and remembers it for what may come. */
static __always_inline void report_open(struct call *call)
{
	submit(call);
	call->reported = 1;
}

/* state_in_close: the first change of state inside a close. */
static __always_inline int state_in_close(void *ctx, const struct sock *sk, u8 old, u8 new)
{
	struct call *call = begin_captured(ctx, sk, EVENT_CLOSE);
	struct event *e;

	if (!call)
		return 0;
	e = &call->event;
	e->course.flags |= UNDER_LOCK | RETURN_UNSEEN;
	e->course.after = new;
	call->last_state = new;
	if (moves_to_fin(old, new)) {
		e->course.flags |= SENT_FIN;
		e->course.unsent_left = unsent_after_fin(sk);
	}
	call->waiting =
		awaits_fin_ack(new) && (e->course.flags & LINGER_ON) && e->course.linger_jiffies;
	/* To CLOSE: a RST may follow, tcp_destroy_sock will. FIN_WAIT2 with a
	 * negative linger2: RST and tcp_destroy_sock will. */
	if (new == TCP_CLOSE || (new == TCP_FIN_WAIT2 && e->course.linger2 < 0))
		return remember(call, sk);
	report_open(call);
	return 0;
}

/* resets_on_disconnect: tcp_disconnect sends a RST from this state. */
static __always_inline bool resets_on_disconnect(const struct event *e, u8 old)
{
	if (e->course.flags & REPAIR)
		return false;
	if (old == TCP_CLOSING || old == TCP_LAST_ACK)
		return e->course.unsent;
	return old != TCP_SYN_SENT;
}

/* disconnect_by_task: connect(AF_UNSPEC) and what else calls tcp_disconnect. */
static __always_inline int disconnect_by_task(void *ctx, const struct sock *sk, u8 old)
{
	struct call *call = begin_captured(ctx, sk, EVENT_DISCONNECT);

	if (!call)
		return 0;
	call->event.course.flags |= UNDER_LOCK | RETURN_UNSEEN | DISCONNECTED;
	call->event.course.after = TCP_CLOSE;
	call->last_state = TCP_CLOSE;
	if (resets_on_disconnect(&call->event, old))
		return remember(call, sk);
	report_open(call);
	return 0;
}

/* shutdown_by_task: shutdown(2), or connect(2) on a listener or a connecting
 * socket, which Go tells apart by the system call. */
static __always_inline int shutdown_by_task(void *ctx, const struct sock *sk, u8 new, u32 flags)
{
	struct call *call = begin_captured(ctx, sk, EVENT_SHUTDOWN);

	if (!call)
		return 0;
	call->event.course.flags |= UNDER_LOCK | RETURN_UNSEEN | flags;
	call->event.course.after = new;
	call->event.course.how = (current_user_call().arg2 & 3) + 1;
	if (flags & SENT_FIN)
		call->event.course.unsent_left = unsent_after_fin(sk);
	report_open(call);
	if (call->event.course.before != TCP_LISTEN)
		close_call(call); /* a listener's children are reset next */
	return 0;
}

/* state_by_task: a change in a task that holds the lock and is not closing. */
static __always_inline int state_by_task(void *ctx, const struct sock *sk, u8 old, u8 new)
{
	if (moves_to_fin(old, new))
		return shutdown_by_task(ctx, sk, new, SENT_FIN);
	if (new != TCP_CLOSE || old == TCP_CLOSE)
		return 0;
	if (READ(sk, sk_err))
		return done(ctx, 0, sk, old); /* a segment from the backlog, or tcp_abort */
	if (old == TCP_LISTEN || old == TCP_SYN_SENT)
		return shutdown_by_task(ctx, sk, new, DISCONNECTED);
	/* The orderly end may also come from the backlog. */
	if (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT || old == TCP_FIN_WAIT1 ||
	    old == TCP_SYN_RECV || in_connect())
		return disconnect_by_task(ctx, sk, old);
	return 0;
}

/* took_peer_fin: tcp_fin sets SOCK_DONE and then changes the state. */
static __always_inline bool took_peer_fin(const struct sock *sk, u8 old, u8 new)
{
	if (old == new)
		return false;
	if (new == TCP_CLOSE_WAIT || new == TCP_CLOSING)
		return true;
	return old == TCP_FIN_WAIT2 &&
	       new == TCP_CLOSE &&sock_flag(READ(sk, __sk_common.skc_flags), SOCK_DONE);
}

/* continues: a change belongs to the close that is open on sk, and not to
 * another socket at the same address. Once the close has made sk an orphan,
 * there is no other call on it; before, softirq may have gone ahead of us only
 * if the close waits under SO_LINGER. */
static __always_inline bool continues(const struct call *call, const struct sock *sk, u8 old,
				      u8 new)
{
	if (!call_is_on(call, sk) || call->event.course.kind != EVENT_CLOSE)
		return false;
	if (sock_flag(READ(sk, __sk_common.skc_flags), SOCK_DEAD))
		return call->event.course.local_port ==
		       bpf_ntohs(READ((const struct inet_sock *)sk, inet_sport));
	return old == call->last_state && old != new;
}

/* state_in_call: a later change inside a close. */
static __always_inline void state_in_call(struct call *call, const struct sock *sk, u8 old, u8 new)
{
	if (call->waiting && !awaits_fin_ack(new)) {
		call->waiting = 0;
		report_wait_over(sk, new, 0);
	}
	if (!call->reported)
		call->event.course.after = new;
	call->event.course.at_rst = old;
	call->last_state = new == TCP_CLOSE ? old : new;
}

/* dropped_child: a listener's close disconnects sk, which makes it an orphan only
 * after that: what is one already, as most, need not be looked up. */
static __always_inline bool dropped_child(const struct sock *sk, u8 old, u8 new)
{
	struct call *call;

	if (new != TCP_CLOSE || sock_flag(READ(sk, __sk_common.skc_flags), SOCK_DEAD))
		return false;
	call = open_call();
	if (!child_of(call, sk))
		return false;
	call->event.course.children_dropped++;
	call->child_before = old;
	return true;
}

/* state_by_softirq: a segment or a timer, no task's doing. */
static __always_inline int state_by_softirq(void *ctx, const struct sock *sk, u8 old, u8 new)
{
	if (dropped_child(sk, old, new))
		return 0;
	if (linger_wait_over(sk, old, new))
		report_wait_over(sk, new, 0);
	if (moves_to_fin(old, new))
		return fin_alone(ctx, sk); /* a shutdown that was deferred, or MPTCP */
	return new == TCP_CLOSE &&old != TCP_CLOSE ? done(ctx, 0, sk, old) : 0;
}

/* begins: a connection or a listener comes to be; no end starts so. */
static __always_inline bool begins(u8 new)
{
	return new == TCP_SYN_SENT || new == TCP_SYN_RECV || new == TCP_ESTABLISHED ||
	       new == TCP_LISTEN;
}

static __always_inline int on_softirq_state(void *ctx, const struct sock *sk, u8 old, u8 new)
{
	if (begins(new) || held_by_task(sk) || !is_tcp(sk))
		return 0;
	if (took_peer_fin(sk, old, new))
		on_peer_fin(ctx, sk);
	return state_by_softirq(ctx, sk, old, new);
}

static __always_inline int on_task_state(void *ctx, const struct sock *sk, u8 old, u8 new)
{
	struct call *call;

	if (begins(new) || !held_by_task(sk) || !is_tcp(sk))
		return 0;
	/* With its FIN a call begins: there is none that goes on. */
	call = moves_to_fin(old, new) ? NULL : open_call();
	if (took_peer_fin(sk, old, new))
		on_peer_fin(ctx, sk); /* from the backlog */
	if (continues(call, sk, old, new)) {
		state_in_call(call, sk, old, new);
		return 0;
	}
	if (new == TCP_CLOSE_WAIT)
		return 0; /* MPTCP took the FIN from the backlog before it closed */
	if (file_is_closing(sk))
		return state_in_close(ctx, sk, old, new);
	if (sock_flag(READ(sk, __sk_common.skc_flags), SOCK_DEAD)) {
		/* Not a close: an orphan that ends in some task's hands. Mark it,
		 * so that its tcp_destroy_sock is not taken for one. */
		call = begin_call(sk, 0);
		if (call)
			call->reported = 1;
		return new == TCP_CLOSE ? done(ctx, 0, sk, old) : 0;
	}
	return state_by_task(ctx, sk, old, new);
}

/* on_destroy: the end of every close that leaves the socket in CLOSE. */
static __always_inline int on_destroy(void *ctx, const struct sock *sk)
{
	struct call *call;
	u16 port;

	if (!is_tcp(sk) || !held_by_task(sk))
		return 0;
	call = open_call();
	port = bpf_ntohs(READ((const struct inet_sock *)sk, inet_sport));
	if (call_is_on(call, sk) && call->reported &&
	    (!call->event.course.kind ||
	     (call->event.course.kind == EVENT_CLOSE && call->event.course.local_port == port))) {
		close_call(call);
		return 0;
	}
	if (!call_is_on(call, sk) || call->reported) {
		if (is_mptcp_subflow(sk))
			return 0; /* taken down when it had ended: not the application's close */
		call = begin_captured(ctx, sk, EVENT_CLOSE); /* it was in CLOSE before */
		if (!call)
			return 0;
		call->event.course.flags |= RETURN_UNSEEN;
	}
	call->event.course.after = TCP_CLOSE;
	end_call(call, 0);
	return 0;
}

/* on_signal: a signal reaches the task on its way out of a system call. */
static __always_inline int on_signal(s32 signal)
{
	struct call *call = open_call();

	if (!call || !call->waiting)
		return 0;
	call->waiting = 0;
	report_wait_over(sock_at(call->sk), 0, signal);
	return 0;
}

#endif
