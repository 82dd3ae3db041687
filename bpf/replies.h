/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Resets in reply to a segment: tcp_v4_send_reset, tcp_v6_send_reset. The
 * socket may be none, a listener, or one of the small ones, so that addresses
 * come from the segment, seen from this host.
 */
#ifndef REPLIES_H
#define REPLIES_H

#define TH_RST 0x04

struct segment {
	u16 family;
	u16 local_port; /* host order: the segment's destination */
	u16 remote_port;
	u8 flags; /* th_flags */
	u8 pad;
	u32 payload; /* bytes */
	u32 netns;   /* of the socket, or of the device it came by */
	u8 local[16];
	u8 remote[16];
};

static __always_inline void read_ports(struct segment *seg, const u8 *th, u32 tcp_length)
{
	u8 header[14];

	bpf_probe_read_kernel(header, sizeof(header), th);
	seg->remote_port = header[0] << 8 | header[1];
	seg->local_port = header[2] << 8 | header[3];
	seg->flags = header[13];
	seg->payload = tcp_length - (header[12] >> 4) * 4;
}

/* read_segment reads the headers of a received segment. */
static __noinline int read_segment(struct segment *seg, const struct sk_buff *skb)
{
	const u8 *head = BPF_CORE_READ(skb, head);
	const u8 *ip = head + BPF_CORE_READ(skb, network_header);
	const u8 *th = head + BPF_CORE_READ(skb, transport_header);
	u8 h[40];

	__builtin_memset(seg, 0, sizeof(*seg));
	bpf_probe_read_kernel(h, 20, ip);
	if (h[0] >> 4 == 4) {
		seg->family = AF_INET;
		__builtin_memcpy(seg->remote, &h[12], 4);
		__builtin_memcpy(seg->local, &h[16], 4);
		read_ports(seg, th, (h[2] << 8 | h[3]) - (u32)(th - ip));
	} else {
		bpf_probe_read_kernel(h, 40, ip);
		seg->family = AF_INET6;
		__builtin_memcpy(seg->remote, &h[8], 16);
		__builtin_memcpy(seg->local, &h[24], 16);
		read_ports(seg, th, (h[4] << 8 | h[5]) + 40 - (u32)(th - ip));
	}
	seg->netns = BPF_CORE_READ(skb, dev, nd_net.net, ns.inum);
	return 0;
}

/* wanted_segment is wanted() of filter.h for what has no full socket; listener
 * is NULL where there is none. */
static __always_inline bool wanted_segment(const struct segment *seg, const struct sock *listener)
{
	if (filters(FILTER_PID))
		return false; /* nobody's call */
	if (filter_cgroup && (!listener || !cgroup_wanted(listener, false)))
		return false;
	if (filter_netns && filter_netns != seg->netns)
		return false;
	if (filter_family && filter_family != seg->family)
		return false;
	return ports_listed(seg->local_port, seg->remote_port);
}

/* too_many: the rate of replies on this CPU is beyond what is reported. */
static __always_inline bool too_many(void)
{
	u64 tick = bpf_ktime_get_ns() / REPLY_TICK_NS;
	u32 zero = 0;
	struct reply_rate *rate = bpf_map_lookup_elem(&reply_rates, &zero);

	if (!rate)
		return false;
	if (rate->tick != tick) {
		rate->tick = tick;
		rate->replies = 0;
	}
	if (rate->replies++ < REPLIES_A_TICK)
		return false;
	count(COUNT_SUPPRESSED);
	return true;
}

/* reply_without_socket: sk is NULL, a listener, or a small socket in `state`;
 * ctx is the program's. */
static __noinline int reply_without_socket(void *ctx, u64 sk, const struct segment *seg, u32 state,
					   const struct fact *fact)
{
	struct event *e = new_event(EVENT_REPLY, bpf_ktime_get_ns());

	if (!e)
		return 0;
	e->course.flags = fact->flags;
	e->course.kernel_reason = fact->reason;
	e->parties.sock = sk;
	if (fact->with_stack)
		capture_kernel_stack(e, ctx, fact->caller);
	e->course.before = state;
	e->course.after = state;
	if (state == TCP_LISTEN)
		e->parties.socket_cgroup_id = socket_cgroup_id(sock_at(sk));
	e->parties.family = seg->family;
	e->course.local_port = seg->local_port;
	e->parties.remote_port = seg->remote_port;
	e->parties.netns = seg->netns;
	e->parties.segment = seg->payload;
	e->course.segment_flags = seg->flags;
	__builtin_memcpy(e->parties.local, seg->local, 16);
	__builtin_memcpy(e->parties.remote, seg->remote, 16);
	send(e);
	return 0;
}

/* on_reply; ctx is the program's, caller what a stack taken there lacks. */
static __always_inline int on_reply(void *ctx, u64 caller, const struct sock *sk,
				    const struct sk_buff *skb, u32 reason)
{
	struct fact fact = {
		.kind = EVENT_REPLY, .flags = SENT_RST, .reason = reason, .caller = caller
	};
	u8 state = sk ? state_of(sk) : 0;
	struct segment seg;

	read_segment(&seg, skb);
	if (seg.flags & TH_RST)
		return 0; /* a RST is never answered by one */
	if (sk)		  /* the segment has left its device by now */
		seg.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (!sk || !is_full(sk) || state == TCP_LISTEN) {
		if (!wanted_segment(&seg, state == TCP_LISTEN ? sk : NULL) ||
		    ((!sk || state == TCP_LISTEN) && too_many()))
			return 0;
		/* Whether a handshake was in progress: only the stack knows. */
		if (state == TCP_LISTEN)
			fact.with_stack = 1;
		return reply_without_socket(ctx, (u64)sk, &seg, state, &fact);
	}
	fact.segment = seg.payload;
	fact.segment_flags = seg.flags;
	return alone(ctx, sk, &fact);
}

/* on_send_reset: entry of tcp_v?_send_reset, before 6.10 only, for what the
 * tracepoint of those kernels leaves out: no socket, or a small one. */
static __always_inline int on_send_reset(void *ctx, u64 caller, const struct sock *sk,
					 const struct sk_buff *skb)
{
	if (sk && is_full(sk))
		return 0;
	return on_reply(ctx, caller, sk, skb, 0);
}

#endif
