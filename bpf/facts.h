/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Facts about a socket outside of any call on it: a record of their own each. */
#ifndef FACTS_H
#define FACTS_H

/* A fact outside of any call, without what is read from its socket. */
struct fact {
	u64 listener; /* all as in struct event */
	u64 caller;
	u32 flags;
	u32 reason;
	u32 segment;
	u32 segment_seq;
	u32 segment_ack;
	u8 kind;
	u8 at_rst;
	u8 segment_flags;
	u8 how;
	u8 with_stack; /* take a kernel stack if the fact passes the filter */
	u8 pad[7];
};

/* capture_received_rst adds the headers of the RST that ends sk, if it is one. */
static __always_inline void capture_received_rst(struct event *e, const struct sock *sk)
{
	u32 zero = 0;
	struct received_rst *rst = bpf_map_lookup_elem(&received_rsts, &zero);

	if (!rst || rst->sk != (u64)sk || rst->snd_nxt != e->progress.snd_nxt)
		return;
	e->progress.segment_seq = rst->seq;
	e->progress.segment_ack = rst->ack;
	e->progress.segment_flags = rst->flags;
	e->endpoints.rst_options = rst->options;
	e->endpoints.rst_window = rst->window;
	e->endpoints.rst_ip_id = rst->ip_id;
	e->endpoints.rst_ttl = rst->ttl;
	rst->sk = 0;
}

/* report_standalone reports a fact about sk outside of any call on it. ctx is the program's. */
static __noinline int report_standalone(void *ctx, const struct sock *sk, const struct fact *fact)
{
	bool by_task = held_by_task(sk) || fact->listener;
	struct event *e;
	s32 stack = -1;
	u64 now;

	if (!wanted(sk, by_task))
		return 0;
	now = bpf_ktime_get_ns();
	if (want_stacks && by_task)
		send_stack(ctx, sk, now);
	if (fact->with_stack)
		stack = send_kernel_stack(ctx);
	e = new_event(fact->kind, now);
	if (!e)
		return 0;
	e->endpoints.stack = stack;
	e->endpoints.caller = fact->with_stack ? fact->caller : 0;
	e->progress.flags = fact->flags | (by_task ? TASK_CONTEXT : 0);
	e->endpoints.listener = fact->listener;
	e->progress.kernel_reason = fact->reason;
	if (by_task)
		capture_task(e);
	capture_socket(e, sk);
	capture_owner(e, sk);
	if (fact->kind == EVENT_PEER_FIN) {
		capture_peer_fin(e, sk);
	} else {
		capture_decision(e, sk);
		capture_timers(e, sk);
		if (infer_fins && fact->kind == EVENT_FIN)
			e->progress.before = e->progress.after = fin_state(e->progress.before);
		if (fact->kind == EVENT_RESET && e->progress.flags & IS_MPTCP)
			e->progress.result = mptcp_unread(sk);
		e->progress.at_rst = fact->at_rst;
		e->endpoints.segment = fact->segment;
		e->progress.segment_flags = fact->segment_flags;
		e->progress.segment_seq = fact->segment_seq;
		e->progress.segment_ack = fact->segment_ack;
		e->progress.how = fact->how;
	}
	if (has_reset && fact->kind == EVENT_DONE)
		capture_received_rst(e, sk);
	send(e);
	return 0;
}

static __always_inline int report_peer_fin(void *ctx, const struct sock *sk)
{
	struct fact fact = { .kind = EVENT_PEER_FIN };

	return report_standalone(ctx, sk, &fact);
}

static __always_inline int report_standalone_fin(void *ctx, const struct sock *sk)
{
	struct fact fact = { .kind = EVENT_FIN, .flags = SENT_FIN };

	return report_standalone(ctx, sk, &fact);
}

#endif
