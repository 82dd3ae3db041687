/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The quiet tier. An ordinary close is one of which the verdict is certain when it begins, and that
 * is never abnormal: a FIN and nothing else, from ESTABLISHED or CLOSE_WAIT. If user space shows
 * none of them, they are counted and noted instead of reported.
 */
#ifndef NOTES_H
#define NOTES_H

#define SIGNAL_MASK 0x7f /* of task_struct.exit_code: the signal that killed the process */

/* was_killed reports whether a signal ended the process, which then closes its sockets. */
static __always_inline bool was_killed(const struct task_struct *task)
{
	return READ(task, flags) & PF_EXITING && READ(task, exit_code) & SIGNAL_MASK;
}

/* next_note returns the next note of this CPU, its number and its place. A task that interrupts
 * another one here may take the same place; then the note has two different stamps. */
static __always_inline struct note *next_note(struct cpu_counts *here, u32 cpu, u32 *number,
					      u32 *place)
{
#ifdef PLAIN_LOADS
	*number = __sync_fetch_and_add(&here->notes, 1) + 1; /* its result needs 5.12 */
#else
	__sync_fetch_and_add(&here->notes, 1);
	*number = *(volatile u64 *)&here->notes;
#endif
	*place = cpu * notes_per_cpu + (*number & (notes_per_cpu - 1));
	return bpf_map_lookup_elem(&notes, place);
}

/* set_stamp writes a stamp of a note between what is written before it and after. The exchange is
 * a barrier. Kernels without plain loads may lack it (5.12); x86 does not reorder writes. */
static __always_inline void set_stamp(u64 *stamp, u64 value)
{
#ifdef PLAIN_LOADS
	__sync_lock_test_and_set(stamp, value);
#else
	barrier();
	*(volatile u64 *)stamp = value;
	barrier();
#endif
}

/* What is read of a socket to decide whether its close is ordinary, and is noted. */
struct closing {
	u64 bytes_received;
	u32 rcv_nxt;
	u32 before;
};

/* write_addresses writes the addresses and ports of a note. */
static __always_inline void write_addresses(struct note *n, const struct sock *sk, u32 ports)
{
	u16 family = READ(sk, __sk_common.skc_family);
	u64 pair;

	n->ports = ports;
	n->family = family;
	n->accepted = is_accepted(sk, family);
	if (family == AF_INET6) {
		BPF_CORE_READ_INTO(&n->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&n->remote, sk, __sk_common.skc_v6_daddr);
		return;
	}
	pair = READ(sk, __sk_common.skc_addrpair);
	*(u32 *)n->remote = (u32)pair;
	*(u32 *)n->local = pair >> 32;
}

/* write_task writes the actor of a note. */
static __always_inline void write_task(struct note *n, const struct task_struct *task, u32 tid)
{
	u32 pid = READ(task, tgid);

	n->pid = pid;
	n->tid = tid;
	n->uid = READ(task, cred, uid.val);
	copy_comm(n->comm, task);
	if (pid != tid)
		copy_comm(n->process, READ(task, group_leader));
	else
		n->process[0] = 0;
}

/* write_note keeps what later endings of the connection, and of other ones, need of a close; and
 * in `noted` what may still happen in it needs. */
static __always_inline void write_note(struct note *n, struct noted *noted, u32 ports,
				       const struct closing *c, const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;
	u32 snd_nxt = READ(tp, snd_nxt);
	u32 snd_una = READ(tp, snd_una);
	u32 first_sent = snd_una - (u32)READ(tp, bytes_acked);

	noted->first_sent = first_sent;
	noted->snd_una = snd_una;
	n->sock = (u64)sk;
	n->netns = READ(sk, __sk_common.skc_net.net, ns.inum);
	n->first_sent = first_sent;
	n->first_received = c->rcv_nxt - (u32)c->bytes_received;
	n->snd_nxt = snd_nxt;
	n->unsent = READ(tp, write_seq) - snd_nxt;
	n->before = c->before;
	write_addresses(n, sk, ports);
}

/* fin_place returns the place of a connection in open_fins. The verifier allows no arithmetic on the
 * address of a socket, but on its ports. */
static __always_inline struct open_fin *fin_place(u32 ports)
{
	u32 place = ports * FIN_HASH >> (32 - FIN_BITS);

	return counts_answers() ? bpf_map_lookup_elem(&open_fins, &place) : NULL;
}

/* keep_fin keeps when the FIN of the peer was received. */
static __always_inline void keep_fin(const struct sock *sk, u64 now)
{
	u64 key = (u64)sk;
#ifdef PLAIN_LOADS
	struct open_fin *fin = fin_place(READ(sk, __sk_common.skc_portpair));
	u64 other;

	if (!fin)
		return;
	other = __sync_val_compare_and_swap(&fin->sock, 0, key);
	if (!other || other == key) {
		fin->received = now;
		return;
	}
	fins_elsewhere = 1;
#endif
	if (bpf_map_update_elem(&more_fins, &key, &now, BPF_ANY))
		count(COUNT_NO_MEMORY);
}

/* is_late reports whether a FIN was answered later than it should be. */
static __always_inline bool is_late(u64 received, u64 answered)
{
	return answered > received && answered - received > close_wait_ns;
}

/* answer_fin forgets the FIN that a close answers, and counts it if the answer came late. It returns
 * when the FIN was received, 0 if that is not known. */
static __always_inline u64 answer_fin(const struct sock *sk, u32 ports, u64 now)
{
	u64 key = (u64)sk, *place, received;
#ifdef PLAIN_LOADS
	struct open_fin *fin = fin_place(ports);

	if (fin && fin->sock == key) {
		received = fin->received;
		fin->sock = 0;
		if (is_late(received, now))
			count(COUNT_PEER_FIN);
		return received;
	}
	if (!fins_elsewhere)
		return 0;
#endif
	place = bpf_map_lookup_elem(&more_fins, &key);
	if (!place)
		return 0;
	received = *place;
	bpf_map_delete_elem(&more_fins, &key);
	if (is_late(received, now))
		count(COUNT_PEER_FIN);
	return received;
}

/* fin_state returns the state that a FIN sent in this state leads to (tcp_close_state). */
static __always_inline u8 fin_state(u8 before)
{
	return before == TCP_CLOSE_WAIT ? TCP_LAST_ACK : TCP_FIN_WAIT1;
}

/* sent_none reports whether this side accepted the connection and sent no data. It connected if its
 * sequence numbers do not begin with a SYN. */
static __always_inline bool sent_none(const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;

	return !READ(tp, bytes_sent) && READ(tp, snd_nxt) == first_sent_of(sk);
}

/*
 * ordinary reports whether the close of sk is certain to send a FIN and nothing else, and is not
 * abnormal. It fills c. The socket lock is held, so what it reads is what the kernel decides on.
 * TCP_REPAIR disconnects instead: then unnote_disconnect follows.
 */
static __always_inline bool ordinary(struct closing *c, const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;
	unsigned long bits = READ(sk, __sk_common.skc_flags);
	u32 unread;

	if (sock_flag(bits, SOCK_LINGER) | sock_flag(bits, SOCK_DEAD) || READ(sk, sk_err) ||
	    READ_BIT(sk, sk_kern_sock) || (s32)READ(tp, linger2) < 0 || is_mptcp_subflow(sk))
		return false;
	c->rcv_nxt = READ(tp, rcv_nxt);
	c->bytes_received = READ(tp, bytes_received);
	unread = c->rcv_nxt - READ(tp, copied_seq);
	/* The FIN of the peer counts as a byte until it is read. */
	if (c->before == TCP_CLOSE_WAIT)
		return sock_flag(bits, SOCK_DONE) && unread <= 1;
	/* Abnormal: the peer connected, sent data and got none. */
	return !unread && (!c->bytes_received || !sent_none(sk));
}

/* take_place takes the place of the current task for the close of sk. It fails if another task is in a
 * close there. */
static __always_inline bool take_place(struct noted *noted, u32 tid, u64 sk)
{
	u64 before = noted->sk;

	if (before && noted->tid != tid && held_by_task(sock_at(before)))
		return false;
#ifdef PLAIN_LOADS
	return __sync_val_compare_and_swap(&noted->sk, before, sk) == before;
#else
	noted->sk = sk; /* cmpxchg needs 5.12 */
	return true;
#endif
}

/* closes_on_exec reports whether a task with a new name is in execve(2), which closes descriptors
 * after it has changed the name. What is reported then has the one before. */
static __noinline bool closes_on_exec(struct noted *noted)
{
	if (!(READ(current_task(), flags) & PF_KTHREAD) && is_execve(current_user_call()))
		return true;
	noted->renamed = 0;
	return false;
}

/* note_close counts and notes the close that begins, if it is certain to be an ordinary one, and
 * reports whether it did. */
static __always_inline bool note_close(const struct sock *sk)
{
	struct closing c = { .before = state_of(sk) };
	u32 cpu = bpf_get_smp_processor_id();
	const struct task_struct *task = current_task();
	u32 tid = tid_of(task), number, place, ports;
	struct cpu_counts *here;
	struct noted *noted;
	struct note *n;
	u64 now, stamp;

	if (!(noted_states >> c.before & 1) || scm_drops || !ordinary(&c, sk) || was_killed(task) ||
	    !wanted(sk, true))
		return false;
	noted = noted_of(tid);
	barrier_var(noted); /* otherwise computed again for some stores */
	here = bpf_map_lookup_elem(&counts, &cpu);
	if (!here || (noted->renamed == tid && closes_on_exec(noted)) ||
	    !take_place(noted, tid, (u64)sk))
		return false;
	n = next_note(here, cpu, &number, &place);
	if (!n)
		return false; /* never: place is one of the ring */
	now = bpf_ktime_get_ns();
	stamp = (u64)tid << 32 | number;
	set_stamp(&n->begun, stamp);
	n->time_ns = now;
	noted->tid = tid;
	noted->place = place;
	noted->before = c.before;
	noted->last_state = 0;
	noted->shutdown_mask = READ(sk, sk_shutdown);
	ports = READ(sk, __sk_common.skc_portpair);
	write_note(n, noted, ports, &c, sk);
	write_task(n, task, tid);
	set_stamp(&n->ended, stamp);
	if (c.before == TCP_ESTABLISHED) {
		__sync_fetch_and_add(&here->of[COUNT_ACTIVE], 1);
		noted->received = 0;
	} else {
		__sync_fetch_and_add(&here->of[COUNT_PASSIVE], 1);
		noted->received = answer_fin(sk, ports, now);
	}
	return true;
}

/* last_state_of returns the newest state of a socket that was seen in its noted close. */
static __always_inline u32 last_state_of(const struct noted *noted)
{
	return noted->last_state ? noted->last_state : fin_state(noted->before);
}

/* restore_decision sets what a noted close was decided on, from its note and from what the socket
 * has now: after the FIN it only received, and sent what was unsent and the FIN. */
static __always_inline void restore_decision(struct progress *p, const struct noted *was,
					     const struct note *n)
{
	u32 sent;

	p->flags = (p->flags & ~ORPHAN) | FILE_CLOSING | SENT_FIN;
	p->after = fin_state(was->before);
	if (was->before == TCP_ESTABLISHED) { /* nothing was unread, and no FIN received */
		p->flags &= ~PEER_FIN;
		p->bytes_received -= p->receive_queue;
		p->receive_queue = 0;
	}
	if (!n)
		return;
	sent = p->snd_nxt - n->snd_nxt;
	p->bytes_sent -= sent - (sent > n->unsent); /* the FIN is no byte */
	p->snd_nxt = n->snd_nxt;
	p->unsent = n->unsent;
	p->unacked = n->snd_nxt - was->snd_una;
}

/* unanswer keeps the FIN again that a noted close answered. */
static __always_inline void unanswer(const struct sock *sk, u64 received, u64 answered)
{
	if (is_late(received, answered))
		uncount(COUNT_PEER_FIN);
	keep_fin(sk, received);
}

/*
 * unnote makes the call of a close that was noted and is to be reported, and returns it: NULL
 * without memory. The note becomes one of no thread, so that it explains nothing.
 */
static __noinline struct call *unnote(const struct sock *sk, const struct noted *noted,
				      bool sent_fin)
{
	struct noted was = *noted;
	struct note *n = bpf_map_lookup_elem(&notes, &was.place);
	struct call *call = begin_call(sk, EVENT_CLOSE);
	struct progress *p;

	if (n && (n->sock != was.sk || n->first_sent != was.first_sent))
		n = NULL; /* overwritten by later ones */
	if (n)
		set_stamp(&n->begun, (u32)n->begun);
	uncount(was.before == TCP_ESTABLISHED ? COUNT_ACTIVE : COUNT_PASSIVE);
	if (!call)
		return NULL;
	p = &call->event.progress;
	capture_decision(&call->event, sk);
	p->flags |= UNDER_LOCK;
	p->before = was.before;
	p->shutdown_mask = was.shutdown_mask;
	if (n)
		p->time_ns = n->time_ns;
	if (was.received)
		unanswer(sk, was.received, p->time_ns);
	if (sent_fin)
		restore_decision(p, &was, n);
	call->last_state = last_state_of(&was);
	return call;
}

/* unnote_disconnect unnotes a close that disconnects its socket. */
static __always_inline struct call *unnote_disconnect(const struct sock *sk,
						      const struct noted *noted)
{
	return unnote(sk, noted, false);
}

/* unnote_close unnotes a close that sends a RST, or ends in an error. A FIN was sent before if the
 * socket is an orphan by now, or if the FIN is what was noted. Otherwise the kernel found unread bytes
 * where the sequence numbers have none, and resets. */
static __always_inline struct call *unnote_close(const struct sock *sk, const struct noted *noted)
{
	const struct tcp_sock *tp = (const void *)sk;
	bool orphan = sock_flag(READ(sk, __sk_common.skc_flags), SOCK_DEAD);
	struct call *call = unnote(sk, noted, by_tracepoints || orphan);
	struct progress *p;

	if (!call || !by_tracepoints)
		return call;
	p = &call->event.progress;
	p->flags |= RETURN_UNSEEN;
	p->unsent_left = READ(tp, write_seq) - READ(tp, snd_nxt);
	submit(call);
	call->reported = 1;
	return call;
}

/* note_fin keeps when a FIN was received, and reports whether it did. Only the close that answers
 * it, or an event that is reported, needs the time. */
static __always_inline bool note_fin(const struct sock *sk, u32 state)
{
	if (!counts_answers() || (state != TCP_ESTABLISHED && state != TCP_SYN_RECV) ||
	    is_mptcp_subflow(sk))
		return false;
	if (!has_filter || wanted(sk, held_by_task(sk)))
		keep_fin(sk, bpf_ktime_get_ns());
	return true;
}

#endif
