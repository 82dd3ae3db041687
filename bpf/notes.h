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

/* next_note returns the place of the next note of this CPU, and its number. A task that interrupts
 * another one here may take the same place; then the note has two different stamps. */
static __always_inline struct note *next_note(struct cpu_counts *here, u32 *number, u32 *place)
{
	__sync_fetch_and_add(&here->notes, 1);
	*number = *(volatile u64 *)&here->notes;
	*place = bpf_get_smp_processor_id() * notes_per_cpu + (*number & (notes_per_cpu - 1));
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

/* What a close is recognized by, as in struct progress. */
struct closing {
	u64 bytes_sent;
	u64 bytes_received;
	u32 ports; /* skc_portpair */
	u32 write_seq;
	u32 snd_una;
	u32 snd_nxt;
	u32 rcv_nxt;
	u32 copied_seq;
	u32 bytes_acked;
	u8 before;
	u8 shutdown_mask;
	u8 pad[2];
};

static __always_inline u32 first_sent(const struct closing *c)
{
	return c->snd_una - c->bytes_acked;
}

/* write_note keeps what later endings of the connection, and of other ones, need of a close. */
static __always_inline void write_note(struct cpu_counts *here, struct call *call,
				       const struct closing *c, u64 now, const struct sock *sk,
				       const struct task_struct *task)
{
	u32 number, place, tid = READ(task, pid);
	struct note *n = next_note(here, &number, &place);
	u64 stamp;

	call->note = place;
	if (!n)
		return;
	stamp = (u64)tid << 32 | number;
	set_stamp(&n->begun, stamp);
	n->time_ns = now;
	n->sock = (u64)sk;
	n->netns = READ(sk, __sk_common.skc_net.net, ns.inum);
	n->pid = READ(task, tgid);
	n->tid = tid;
	n->uid = READ(task, cred, uid.val);
	n->first_sent = first_sent(c);
	n->first_received = c->rcv_nxt - (u32)c->bytes_received;
	n->snd_nxt = c->snd_nxt;
	n->unsent = c->write_seq - c->snd_nxt;
	n->family = READ(sk, __sk_common.skc_family);
	n->local_port = c->ports >> 16;
	n->remote_port = bpf_ntohs((u16)c->ports);
	n->before = c->before;
	n->accepted = is_accepted(sk);
	if (n->family == AF_INET6) {
		BPF_CORE_READ_INTO(&n->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&n->remote, sk, __sk_common.skc_v6_daddr);
	} else {
		u64 pair = READ(sk, __sk_common.skc_addrpair);

		*(u32 *)n->remote = (u32)pair;
		*(u32 *)n->local = pair >> 32;
	}
	copy_comm(n->comm, task);
	if (n->pid != tid)
		copy_comm(n->process, READ(task, group_leader));
	else
		n->process[0] = 0;
	set_stamp(&n->ended, stamp);
}

/* fin_place returns the place of a connection in open_fins. The verifier allows no arithmetic on the
 * address of a socket, but on its ports. */
static __always_inline struct open_fin *fin_place(u32 ports)
{
	u32 place = ports * FIN_HASH >> (32 - FIN_BITS);

	return count_passive ? bpf_map_lookup_elem(&open_fins, &place) : NULL;
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
	bpf_map_update_elem(&more_fins, &key, &now, BPF_ANY);
}

/* answer_fin forgets the FIN that a close answers, and counts it if the answer came late. */
static __always_inline void answer_fin(const struct sock *sk, u32 ports, u64 now)
{
	u64 key = (u64)sk, *received;
#ifdef PLAIN_LOADS
	struct open_fin *fin = fin_place(ports);

	if (fin && fin->sock == key) {
		if (now - fin->received > close_wait_ns)
			count(COUNT_PEER_FIN);
		fin->sock = 0;
		return;
	}
	if (!fins_elsewhere)
		return;
#endif
	received = bpf_map_lookup_elem(&more_fins, &key);
	if (!received)
		return;
	if (now > *received && now - *received > close_wait_ns)
		count(COUNT_PEER_FIN);
	bpf_map_delete_elem(&more_fins, &key);
}

/* fin_state returns the state that a FIN sent in this state leads to (tcp_close_state). */
static __always_inline u8 fin_state(u8 before)
{
	return before == TCP_CLOSE_WAIT ? TCP_LAST_ACK : TCP_FIN_WAIT1;
}

/*
 * ordinary reports whether the close of sk is certain to send a FIN and nothing else, and is not
 * abnormal. It fills c. The socket lock is held, so what it reads is what the kernel decides on.
 */
static __always_inline bool ordinary(struct closing *c, const struct sock *sk)
{
	const struct tcp_sock *tp = (const void *)sk;
	unsigned long bits = READ(sk, __sk_common.skc_flags);

	if (sock_flag(bits, SOCK_LINGER) || sock_flag(bits, SOCK_DEAD) || READ(sk, sk_err) ||
	    READ_BIT(sk, sk_kern_sock) || READ_BIT(tp, repair) || (s32)READ(tp, linger2) < 0 ||
	    is_mptcp_subflow(sk))
		return false;
	c->rcv_nxt = READ(tp, rcv_nxt);
	c->copied_seq = READ(tp, copied_seq);
	c->bytes_received = READ(tp, bytes_received);
	c->bytes_sent = READ(tp, bytes_sent);
	c->bytes_acked = (u32)READ(tp, bytes_acked);
	c->write_seq = READ(tp, write_seq);
	c->snd_una = READ(tp, snd_una);
	c->snd_nxt = READ(tp, snd_nxt);
	c->ports = READ(sk, __sk_common.skc_portpair);
	c->shutdown_mask = READ(sk, sk_shutdown);
	/* The FIN of the peer counts as a byte until it is read. */
	if (c->before == TCP_CLOSE_WAIT)
		return sock_flag(bits, SOCK_DONE) && c->rcv_nxt - c->copied_seq <= 1;
	/* Abnormal: the peer connected, sent data and got none. It connected if the sequence
	 * numbers of this side do not begin with a SYN. */
	return c->rcv_nxt == c->copied_seq &&
	       (c->bytes_sent || !c->bytes_received || c->snd_nxt != first_sent(c));
}

/* keep_call opens a call for what may still happen in a close that was noted. Its event has what
 * unnote_close cannot read any more. */
static __always_inline void keep_call(struct call *call, const struct closing *c, u64 now,
				      const struct sock *sk)
{
	struct progress *p = &call->event.progress;

	p->time_ns = now;
	p->bytes_sent = c->bytes_sent;
	p->bytes_received = c->bytes_received;
	p->flags = SENT_FIN | TASK_CONTEXT | UNDER_LOCK;
	p->receive_queue = c->rcv_nxt - c->copied_seq;
	p->unsent = c->write_seq - c->snd_nxt;
	p->unacked = c->snd_nxt - c->snd_una;
	p->snd_nxt = c->snd_nxt;
	p->first_sent = first_sent(c);
	p->sk_err = 0;
	p->local_port = c->ports >> 16;
	p->kind = EVENT_CLOSE;
	p->before = c->before;
	p->shutdown_mask = c->shutdown_mask;
	call->sk = (u64)sk;
	__builtin_memset(&call->reported, 0,
			 sizeof(*call) - __builtin_offsetof(struct call, reported));
	call->noted = 1;
	if (by_tracepoints) {
		call->reported = 1;
		call->last_state = fin_state(c->before);
	}
}

/* note_close counts and notes the close that begins, if it is certain to be an ordinary one, and
 * reports whether it did. */
static __noinline int note_close(const struct sock *sk)
{
	const struct task_struct *task = current_task();
	struct closing c = { .before = state_of(sk) };
	struct cpu_counts *here = counts_here();
	struct call *call;
	u64 now;

	if (c.before == TCP_ESTABLISHED ? !count_active
					: c.before != TCP_CLOSE_WAIT || !count_passive)
		return 0;
	if (!here || scm_drops || !ordinary(&c, sk) || was_killed(task) || !wanted(sk, true))
		return 0;
	call = call_of_task(true);
	if (!call)
		return 0;
	now = bpf_ktime_get_ns();
	keep_call(call, &c, now, sk);
	write_note(here, call, &c, now, sk, task);
	if (c.before == TCP_ESTABLISHED) {
		__sync_fetch_and_add(&here->of[COUNT_ACTIVE], 1);
	} else {
		__sync_fetch_and_add(&here->of[COUNT_PASSIVE], 1);
		answer_fin(sk, c.ports, now);
	}
	return 1;
}

/*
 * unnote_close turns a close that was noted into one that is reported, because more has happened
 * in it, and reads what its event lacks. The socket is an orphan by now. The note becomes
 * incomplete, so that it explains nothing. A FIN that the close answered is forgotten.
 */
static __noinline int unnote_close(struct call *call)
{
	struct progress *p = &call->event.progress;
	const struct sock *sk = sock_at(call->sk);
	struct progress was = *p;
	u32 place = call->note;
	struct note *n = bpf_map_lookup_elem(&notes, &place);

	if (n && n->sock == call->sk && n->time_ns == p->time_ns)
		set_stamp(&n->begun, 0);
	uncount(was.before == TCP_ESTABLISHED ? COUNT_ACTIVE : COUNT_PASSIVE);
	call->noted = 0;
	call->began_jiffies = 0;
	__builtin_memset(p, 0, sizeof(*p));
	capture_decision(&call->event, sk);
	p->time_ns = was.time_ns;
	p->kind = was.kind;
	p->flags = (p->flags & ~ORPHAN) | FILE_CLOSING | was.flags;
	p->bytes_sent = was.bytes_sent;
	p->bytes_received = was.bytes_received;
	p->receive_queue = was.receive_queue;
	p->unsent = was.unsent;
	p->unacked = was.unacked;
	p->snd_nxt = was.snd_nxt;
	p->before = was.before;
	p->after = fin_state(was.before);
	p->shutdown_mask = was.shutdown_mask;
	if (!by_tracepoints) {
		count(COUNT_BEGUN);
		return 0;
	}
	p->flags |= RETURN_UNSEEN;
	p->unsent_left = READ((const struct tcp_sock *)sk, write_seq) -
			 READ((const struct tcp_sock *)sk, snd_nxt);
	return submit(call);
}

/* note_fin keeps when a FIN was received, and reports whether it did. Only the close that answers
 * it, or an event that is reported, needs the time. */
static __always_inline bool note_fin(const struct sock *sk, u8 state)
{
	if (!count_passive || (state != TCP_ESTABLISHED && state != TCP_SYN_RECV) ||
	    is_mptcp_subflow(sk))
		return false;
	if (!has_filter || wanted(sk, held_by_task(sk)))
		keep_fin(sk, bpf_ktime_get_ns());
	return true;
}

#endif
