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

/* linger_wait_over: a close sleeps on sk under SO_LINGER and need not any more. */
static __always_inline bool linger_wait_over(const struct sock *sk, u8 old, u8 new)
{
	unsigned long bits = BPF_CORE_READ(sk, __sk_common.skc_flags);

	return awaits_fin_ack(old) && !awaits_fin_ack(new) && sock_flag(bits, SOCK_LINGER) &&
	       !sock_flag(bits, SOCK_DEAD) && file_is_closing(sk) &&
	       BPF_CORE_READ(sk, sk_lingertime);
}

static __always_inline void report_wait_over(const struct sock *sk, s32 signal)
{
	struct event e;

	__builtin_memset(&e, 0, sizeof(e));
	e.time_ns = bpf_ktime_get_ns();
	e.kind = EVENT_WAIT_OVER;
	e.sock = (u64)sk;
	e.signal = signal;
	e.syscall = -1;
	submit(&e);
}

/* report_open: sends the record of the open call now, as nothing certain comes
 * later, and remembers it for what may come. */
static __always_inline void report_open(struct call *call)
{
	submit(&call->event);
	call->reported = 1;
}

/* state_in_close: the first change of state inside a close. */
static __always_inline int state_in_close(const struct sock *sk, u8 old, u8 new)
{
	struct call *call = begin_captured(sk, EVENT_CLOSE);
	struct event *e;

	if (!call)
		return 0;
	e = &call->event;
	e->flags |= UNDER_LOCK | RETURN_UNSEEN;
	e->after = new;
	call->last_state = new;
	if (moves_to_fin(old, new))
		e->flags |= SENT_FIN;
	call->waiting = awaits_fin_ack(new) && (e->flags & LINGER_ON) && e->linger_jiffies;
	/* To CLOSE: a RST may follow, tcp_destroy_sock will. FIN_WAIT2 with a
	 * negative linger2: RST and tcp_destroy_sock will. */
	if (new == TCP_CLOSE || (new == TCP_FIN_WAIT2 && e->linger2 < 0))
		return 0;
	report_open(call);
	return 0;
}

/* state_by_task: a change by a task that is not closing: shutdown(2), or
 * connect(2), which Go tells apart by the system call. */
static __always_inline int state_by_task(const struct sock *sk, u8 old, u8 new)
{
	bool ended = new == TCP_CLOSE && (old == TCP_LISTEN || old == TCP_SYN_SENT);
	struct call *call;

	if (!moves_to_fin(old, new) && !ended)
		return 0;
	if (old == TCP_CLOSING || awaits_fin_ack(old))
		return 0;
	call = begin_captured(sk, EVENT_SHUTDOWN);
	if (!call)
		return 0;
	call->event.flags |= UNDER_LOCK | RETURN_UNSEEN | (ended ? DISCONNECTED : SENT_FIN);
	call->event.after = new;
	call->event.how = (current_user_call().arg2 & 3) + 1;
	call->last_state = new;
	report_open(call);
	return 0;
}

/* state_in_call: a later change inside a call that is open; false: another
 * socket took the address since. */
static __always_inline bool state_in_call(struct call *call, const struct sock *sk, u8 old, u8 new)
{
	unsigned long bits = BPF_CORE_READ(sk, __sk_common.skc_flags);

	if (old != call->last_state || (old == new && !sock_flag(bits, SOCK_DEAD)))
		return false;
	if (call->waiting && !awaits_fin_ack(new)) {
		call->waiting = 0;
		report_wait_over(sk, 0);
	}
	if (!call->reported)
		call->event.after = new;
	call->event.at_rst = old;
	call->last_state = new == TCP_CLOSE ? old : new;
	return true;
}

static __always_inline int on_state(const struct sock *sk, u8 old, u8 new)
{
	struct call *call = open_call();

	if (!is_tcp(sk))
		return 0;
	if (!held_by_task(sk)) {
		if (child_of(call, sk)) {
			call->event.children_dropped++;
			call->child_before = old;
		} else if (linger_wait_over(sk, old, new)) {
			report_wait_over(sk, 0);
		} else if (old == TCP_ESTABLISHED && new == TCP_FIN_WAIT1) {
			fin_alone(sk);
		}
		return 0;
	}
	if (call_is_on(call, sk) && state_in_call(call, sk, old, new))
		return 0;
	if (file_is_closing(sk))
		return state_in_close(sk, old, new);
	if (sock_flag(BPF_CORE_READ(sk, __sk_common.skc_flags), SOCK_DEAD)) {
		/* Not a close: an orphan that ends in some task's hands. Mark it,
		 * so that its tcp_destroy_sock is not taken for one. */
		call = begin_call(sk, EVENT_CLOSE);
		if (call)
			call->reported = 1;
		return 0;
	}
	return state_by_task(sk, old, new);
}

/* on_destroy: the end of every close that leaves the socket in CLOSE. */
static __always_inline int on_destroy(const struct sock *sk)
{
	struct call *call = open_call();
	u16 port = bpf_ntohs(BPF_CORE_READ((const struct inet_sock *)sk, inet_sport));

	if (!is_tcp(sk) || !held_by_task(sk))
		return 0;
	if (call_is_on(call, sk) && call->reported &&
	    (call->event.local_port == port || !call->event.time_ns)) {
		call->sk = 0;
		return 0;
	}
	if (!call_is_on(call, sk) || call->reported) {
		call = begin_captured(sk, EVENT_CLOSE); /* it was in CLOSE before */
		if (!call)
			return 0;
		call->event.flags |= RETURN_UNSEEN;
	}
	call->event.after = TCP_CLOSE;
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
	report_wait_over((const struct sock *)call->sk, signal);
	return 0;
}

#endif
