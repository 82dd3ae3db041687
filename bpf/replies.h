/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * RSTs in reply to a segment: tcp_v4_send_reset, tcp_v6_send_reset. There may be no socket, a
 * listener, a request socket or a TIME_WAIT entry, so addresses are taken from the segment, as
 * seen from this host. And those that netfilter sends for a rule that rejects a segment with a
 * RST: nf_send_reset, nf_send_reset6. There "local" is where the segment goes to.
 */
#ifndef REPLIES_H
#define REPLIES_H

#define TH_RST 0x04
#define TH_ACK 0x10
#define IP_OFFSET 0x1fff /* include/net/ip.h */

struct segment {
	u16 family;
	u16 local_port; /* host order: the segment's destination */
	u16 remote_port;
	u8 flags;    /* th_flags */
	u8 is_tcp;   /* the packet begins with a TCP header; in IPv6 behind no other header */
	u32 payload; /* bytes */
	u32 seq;
	u32 ack;   /* 0 without ACK */
	u32 netns; /* of the socket, or of the receiving device */
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
	seg->seq = (u32)header[4] << 24 | header[5] << 16 | header[6] << 8 | header[7];
	if (seg->flags & TH_ACK)
		seg->ack = (u32)header[8] << 24 | header[9] << 16 | header[10] << 8 | header[11];
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
		seg->is_tcp = h[9] == IPPROTO_TCP && !((h[6] << 8 | h[7]) & IP_OFFSET);
		__builtin_memcpy(seg->remote, &h[12], 4);
		__builtin_memcpy(seg->local, &h[16], 4);
		read_ports(seg, th, (h[2] << 8 | h[3]) - (u32)(th - ip));
	} else {
		bpf_probe_read_kernel(h, 40, ip);
		seg->family = AF_INET6;
		seg->is_tcp = h[6] == IPPROTO_TCP;
		__builtin_memcpy(seg->remote, &h[8], 16);
		__builtin_memcpy(seg->local, &h[24], 16);
		read_ports(seg, th, (h[4] << 8 | h[5]) + 40 - (u32)(th - ip));
	}
	seg->netns = BPF_CORE_READ(skb, dev, nd_net.net, ns.inum);
	return 0;
}

/* wanted_segment is wanted() of filter.h without a full socket. listener may be NULL. */
static __always_inline bool wanted_segment(const struct segment *seg, const struct sock *listener)
{
	if (filter_cgroup && (!listener || !cgroup_wanted(listener, false)))
		return false;
	if (filters(FILTER_NETNS) && !listed(FILTER_NETNS, seg->netns))
		return false;
	if (filter_family && filter_family != seg->family)
		return false;
	return ports_listed(seg->local_port, seg->remote_port);
}

/* too_many reports whether this CPU exceeds the rate of replies that are reported. */
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

/* reply_without_socket reports a RST without a full socket: sk is NULL, a listener, or another
 * socket in `state`. ctx is the program's. The fact has the kind. */
static __noinline int reply_without_socket(void *ctx, u64 sk, const struct segment *seg, u32 state,
					   const struct fact *fact)
{
	u64 now = bpf_ktime_get_ns();
	s32 stack = fact->with_stack ? send_kernel_stack(ctx) : -1;
	struct event *e = new_event(fact->kind, now);

	if (!e)
		return 0;
	e->endpoints.stack = stack;
	e->endpoints.caller = fact->with_stack ? fact->caller : 0;
	e->progress.flags = fact->flags;
	e->progress.kernel_reason = fact->reason;
	e->progress.how = fact->how;
	e->endpoints.sock = sk;
	e->progress.before = state;
	e->progress.after = state;
	if (state == TCP_LISTEN) {
		e->endpoints.socket_cgroup_id = socket_cgroup_id(sock_at(sk));
		capture_accept_queue(e, sock_at(sk));
		capture_owner(e, sock_at(sk));
	}
	e->endpoints.family = seg->family;
	e->progress.local_port = seg->local_port;
	e->endpoints.remote_port = seg->remote_port;
	e->endpoints.netns = seg->netns;
	e->endpoints.segment = seg->payload;
	e->progress.segment_flags = seg->flags;
	e->progress.segment_seq = seg->seq;
	e->progress.segment_ack = seg->ack;
	__builtin_memcpy(e->endpoints.local, seg->local, 16);
	__builtin_memcpy(e->endpoints.remote, seg->remote, 16);
	send(e);
	return 0;
}

#define TCP_HEADER 20
#define TCP_OPTIONS 40 /* at most */

/* read_options notes which options a TCP header has: bit n is kind n, bit 31 all from 31 on. The
 * verifier does not follow values in a map, so that few states differ in the loop. */
static __noinline int read_options(struct received_rst *rst, const u8 *th, u32 length)
{
	u8 options[64] = {};
	u32 at = TCP_HEADER;

	rst->options = 0;
	/* What follows the header is the buffer's own, up to struct skb_shared_info. */
	if (bpf_probe_read_kernel(options, TCP_HEADER + TCP_OPTIONS, th))
		return 0;
	for (int i = 0; i < TCP_OPTIONS; i++) {
		u8 kind, size;

		at &= 63;
		if (at >= length)
			break;
		kind = options[at];
		size = options[(at + 1) & 63];
		if (kind == 0) /* end of the list */
			break;
		if (kind == 1) { /* padding */
			size = 1;
		} else {
			rst->options |= 1U << (kind < 31 ? kind : 31);
			if (size < 2)
				break;
		}
		at += size;
	}
	return 0;
}

/* on_reset handles tcp_reset: a segment ends sk, which is a RST or, after shutdown(2), data. */
static __always_inline int on_reset(const struct sock *sk, const struct sk_buff *skb)
{
	const u8 *head = BPF_CORE_READ(skb, head);
	const u8 *ip = head + BPF_CORE_READ(skb, network_header);
	const u8 *th = head + BPF_CORE_READ(skb, transport_header);
	u32 zero = 0;
	struct received_rst *rst = bpf_map_lookup_elem(&received_rsts, &zero);
	u8 h[TCP_HEADER];

	if (!rst)
		return 0;
	rst->sk = 0;
	bpf_probe_read_kernel(h, sizeof(h), th);
	if (!(h[13] & TH_RST))
		return 0;
	rst->snd_nxt = READ((const struct tcp_sock *)sk, snd_nxt);
	rst->seq = (u32)h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7];
	rst->ack = h[13] & TH_ACK ? (u32)h[8] << 24 | h[9] << 16 | h[10] << 8 | h[11] : 0;
	rst->flags = h[13];
	rst->window = h[14] << 8 | h[15];
	read_options(rst, th, (h[12] >> 4) * 4);
	bpf_probe_read_kernel(h, 9, ip);
	rst->ttl = h[0] >> 4 == 4 ? h[8] : h[7];
	rst->ip_id = h[0] >> 4 == 4 ? h[4] << 8 | h[5] : 0;
	rst->sk = (u64)sk;
	return 0;
}

/* on_reply handles a RST in reply. ctx and caller are as in report_done. */
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
		return 0; /* the kernel does not answer a RST with a RST */
	if (sk)		  /* the segment no longer has a device */
		seg.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	if (!sk || !is_full(sk) || state == TCP_LISTEN) {
		if (!wanted_segment(&seg, state == TCP_LISTEN ? sk : NULL) ||
		    ((!sk || state == TCP_LISTEN) && too_many()))
			return 0;
		/* Only the stack shows whether a handshake was in progress. */
		if (state == TCP_LISTEN)
			fact.with_stack = 1;
		return reply_without_socket(ctx, (u64)sk, &seg, state, &fact);
	}
	fact.segment = seg.payload;
	fact.segment_flags = seg.flags;
	fact.segment_seq = seg.seq;
	fact.segment_ack = seg.ack;
	return report_standalone(ctx, sk, &fact);
}

/* on_send_reset handles the entry of tcp_v?_send_reset before 6.10, for RSTs that the tracepoint
 * of those kernels does not report: those without a full socket. */
static __always_inline int on_send_reset(void *ctx, u64 caller, const struct sock *sk,
					 const struct sk_buff *skb)
{
	if (sk && is_full(sk))
		return 0;
	return on_reply(ctx, caller, sk, skb, 0);
}

/*
 * on_reject handles the entry of nf_send_reset, nf_send_reset6. They send a RST unless the segment
 * is one, is not TCP, or has a wrong checksum, which is not tested here. The socket is that of the
 * segment's sender, if that is on this host, and is not needed. hook is enum nf_inet_hooks.
 */
static __always_inline int on_reject(void *ctx, const struct net *net, const struct sk_buff *skb,
				     u32 hook)
{
	struct fact fact = { .kind = EVENT_REJECT, .flags = SENT_RST, .how = hook };
	struct segment seg;

	read_segment(&seg, skb);
	if (!seg.is_tcp || seg.flags & TH_RST)
		return 0;
	seg.netns = BPF_CORE_READ(net, ns.inum);
	if (!wanted_segment(&seg, NULL) || too_many())
		return 0;
	return reply_without_socket(ctx, 0, &seg, 0, &fact);
}

/* on_reject_args is on_reject for a kprobe, with the second to fourth argument. Before 5.11, and the
 * late releases of 5.10, there is no socket among them. Modules of those kernels have no BTF, so the
 * value decides: a hook is a small number, an address of the kernel is not. */
static __always_inline int on_reject_args(void *ctx, const struct net *net, u64 second, u64 third,
					  u64 fourth)
{
	if ((s64)third >= 0)
		return on_reject(ctx, net, (const void *)second, third);
	return on_reject(ctx, net, (const void *)third, fourth);
}

#endif
