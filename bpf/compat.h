/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Differences between kernels: for each the change, the flavour of the type, and one accessor.
 * No code tests a version, because distributions backport changes: the running kernel's BTF
 * decides.
 */
#ifndef COMPAT_H
#define COMPAT_H

#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpadded" /* as in kernel.h */

/* struct file counted references in f_count (0: last one gone) until 6.13
 * brought file_ref_t, whose counter is negative once the file is dead. */
struct file___f_count {
	atomic64_t f_count;
} __kernel_type;

typedef struct {
	atomic64_t refcnt;
} __kernel_type file_ref_t;

struct file___f_ref {
	file_ref_t f_ref;
} __kernel_type;

/* file_is_dying reports whether the last reference was released and __fput is running. */
static __always_inline bool file_is_dying(const struct file *file)
{
	const struct file___f_count *counted = (const void *)file;
	const struct file___f_ref *referenced = (const void *)file;

	if (bpf_core_field_exists(referenced->f_ref))
		return (s64)READ(referenced, f_ref.refcnt.counter) < 0;
	return READ(counted, f_count.counter) == 0;
}

/* file_references returns the number of descriptors and running calls that hold the file.
 * file_ref_t is 0 for one reference. */
static __always_inline s64 file_references(const struct file *file)
{
	const struct file___f_count *counted = (const void *)file;
	const struct file___f_ref *referenced = (const void *)file;

	if (bpf_core_field_exists(referenced->f_ref))
		return (s64)BPF_CORE_READ(referenced, f_ref.refcnt.counter) + 1;
	return BPF_CORE_READ(counted, f_count.counter);
}

/* The reference count of a namespace: net.count until 5.10, ns_common.count
 * from 5.11, ns_common.__ns_ref from 6.18. */
struct net___count {
	refcount_t count;
} __kernel_type;

struct ns_common___count {
	refcount_t count;
} __kernel_type;

struct ns_common___ref {
	refcount_t __ns_ref;
} __kernel_type;

/* netns_is_gone reports whether check_net() of include/net/net_namespace.h is false. */
static __always_inline bool netns_is_gone(const struct net *net)
{
	const struct ns_common___ref *ref = (const void *)&net->ns;
	const struct ns_common___count *count = (const void *)&net->ns;
	const struct net___count *counted = (const void *)net;

	if (bpf_core_field_exists(ref->__ns_ref))
		return READ(ref, __ns_ref.refs.counter) == 0;
	if (bpf_core_field_exists(count->count))
		return READ(count, count.refs.counter) == 0;
	return READ(counted, count.refs.counter) == 0;
}

/* tcp_sock.is_mptcp exists if the kernel was built with MPTCP (5.6). */
struct tcp_sock___mptcp {
	bool is_mptcp;
} __kernel_type;

static __always_inline bool is_mptcp_subflow(const struct sock *sk)
{
	const struct tcp_sock___mptcp *tp = (const void *)sk;

	return bpf_core_field_exists(tp->is_mptcp) && READ(tp, is_mptcp);
}

/* The connection that an MPTCP subflow belongs to, and its receive queues: until 6.14 its own
 * queue before that of the socket. The types exist as tcp_sock.is_mptcp does. */
struct mptcp_subflow_context {
	struct sock *conn;
} __kernel_type;

struct mptcp_sock___queue {
	struct sk_buff_head receive_queue;
} __kernel_type;

struct mptcp_skb_cb {
	u64 end_seq;
	u32 offset;
} __kernel_type;

static __always_inline const struct mptcp_skb_cb *mptcp_control(const struct sk_buff *skb)
{
	return (const void *)skb + bpf_core_field_offset(skb->cb);
}

/*
 * mptcp_unread returns how many bytes the connection of an MPTCP subflow has received that were
 * not read, if it is closed and its owner holds its lock; 0 otherwise, because data remains for
 * other subflows or the queue may change. What was read of the first buffer is in its offset.
 */
static __noinline u32 mptcp_unread(const struct sock *sk)
{
	const struct inet_connection_sock *icsk = (const void *)sk;
	const struct mptcp_subflow_context *subflow = BPF_CORE_READ(icsk, icsk_ulp_data);
	const struct mptcp_sock___queue *msk;
	const struct sk_buff *first, *last;
	const struct sock *conn;
	const void *queue;

	if (!bpf_core_field_exists(subflow->conn) ||
	    !bpf_core_field_exists(((struct mptcp_skb_cb *)0)->end_seq))
		return 0;
	conn = BPF_CORE_READ(subflow, conn);
	if (!conn || BPF_CORE_READ(conn, __sk_common.skc_state) != TCP_CLOSE ||
	    !BPF_CORE_READ(conn, sk_lock.owned))
		return 0;
	queue = (const void *)conn + bpf_core_field_offset(conn->sk_receive_queue);
	first = BPF_CORE_READ(conn, sk_receive_queue.next);
	last = BPF_CORE_READ(conn, sk_receive_queue.prev);
	msk = (const void *)conn;
	if (bpf_core_field_exists(msk->receive_queue)) {
		const void *before = (const void *)msk + bpf_core_field_offset(msk->receive_queue);
		const struct sk_buff *head = BPF_CORE_READ(msk, receive_queue.next);

		if (head != before) {
			first = head;
			if (last == queue)
				last = BPF_CORE_READ(msk, receive_queue.prev);
		}
	}
	if (!first || !last || first == queue)
		return 0;
	return (u32)BPF_CORE_READ(mptcp_control(last), end_seq) -
	       (u32)BPF_CORE_READ(mptcp_control(first), end_seq) + BPF_CORE_READ(first, len) -
	       BPF_CORE_READ(mptcp_control(first), offset);
}

/* tcp_sock.retrans_stamp counts milliseconds of CLOCK_MONOTONIC or, with
 * tcp_usec_ts (6.7), microseconds. */
struct tcp_sock___usec {
	u8 tcp_usec_ts : 1;
} __kernel_type;

/* ms_since returns the milliseconds since a retrans_stamp of this socket. */
static __always_inline u32 ms_since(const struct sock *sk, u32 stamp)
{
	const struct tcp_sock___usec *tp = (const void *)sk;
	u64 now_us = bpf_ktime_get_ns() / 1000;

	if (bpf_core_field_exists(tp->tcp_usec_ts) && READ_BIT(tp, tcp_usec_ts))
		return ((u32)now_us - stamp) / 1000;
	return (u32)(now_us / 1000) - stamp;
}

/* may_migrate reports whether handshakes of a listener move to another one of its SO_REUSEPORT group
 * when it is closed (reuseport_migrate_sock, 5.14): by tcp_migrate_req or, perhaps, by a program. */
static __noinline int may_migrate(const struct sock *sk)
{
	const struct net *net = READ(sk, __sk_common.skc_net.net);

	if (!bpf_core_field_exists(net->ipv4.sysctl_tcp_migrate_req) ||
	    !READ_BIT(sk, __sk_common.skc_reuseport))
		return 0;
	return READ(net, ipv4.sysctl_tcp_migrate_req) || READ(sk, sk_reuseport_cb, prog);
}

/* inet_connection_sock.icsk_probes_tstamp: 5.11, and 5.10.10 of the stable series. */
struct inet_connection_sock___probes {
	u32 icsk_probes_tstamp;
} __kernel_type;

/* probing_since returns the time of the first unanswered window probe in jiffies; 0: none, or
 * this kernel does not store it. */
static __always_inline u32 probing_since(const struct sock *sk)
{
	const struct inet_connection_sock___probes *icsk = (const void *)sk;

	return bpf_core_field_exists(icsk->icsk_probes_tstamp) ? READ(icsk, icsk_probes_tstamp) : 0;
}

/* sock.sk_cgrp_data has the cgroup in a field of its own from 5.15 on; before,
 * in one word with the data of net_cls and net_prio, distinguished by the two lowest bits. It
 * exists if the kernel was built with CONFIG_SOCK_CGROUP_DATA. */
struct sock_cgroup_data___own {
	struct cgroup *cgroup;
} __kernel_type;

struct sock___own {
	struct sock_cgroup_data___own sk_cgrp_data;
} __kernel_type;

struct sock_cgroup_data___shared {
	u64 val;
} __kernel_type;

struct sock___shared {
	struct sock_cgroup_data___shared sk_cgrp_data;
} __kernel_type;

/* socket_cgroup returns the cgroup of the task that created the socket or, if it was accepted,
 * its listener. NULL: unknown. */
static __always_inline const struct cgroup *socket_cgroup(const struct sock *sk)
{
	const struct sock___own *own = (const void *)sk;
	const struct sock___shared *shared = (const void *)sk;
	u64 word;

	if (bpf_core_field_exists(own->sk_cgrp_data.cgroup))
		return READ(own, sk_cgrp_data.cgroup);
	if (!bpf_core_field_exists(shared->sk_cgrp_data.val))
		return NULL;
	word = READ(shared, sk_cgrp_data.val);
	return word & 3 ? NULL : (const void *)word;
}

/* The registers of user mode contain the system call. bpf_task_pt_regs exists from 5.15 on.
 * Before, read them where it finds them, at the top of the kernel stack: task_pt_regs() of
 * asm/processor.h. */
enum bpf_func_id___pt_regs {
	BPF_FUNC_task_pt_regs___pt_regs = 175,
};

#define THREAD_SIZE (16 << 10) /* x86-64, and arm64 with pages of 4 KB */

#if defined(__TARGET_ARCH_x86)
struct pt_regs___user {
	unsigned long orig_ax;
	u16 cs;
	unsigned long di, si, bx, cx;
} __attribute__((preserve_access_index));
#define USER32_CS 0x23 /* __USER32_CS */
#else
struct pt_regs___user {
	s32 syscallno;
	u64 sp, pstate;
	u64 regs[31];
} __attribute__((preserve_access_index));
#define MODE32_BIT 0x10 /* PSR_MODE32_BIT */
#define SP32 13		/* compat_sp */
#define NO_SYSCALL -1
#endif

static __always_inline const struct pt_regs___user *user_registers(void)
{
	const struct task_struct *task;

	if (bpf_core_enum_value_exists(enum bpf_func_id___pt_regs, BPF_FUNC_task_pt_regs___pt_regs))
		return (const void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	task = (const void *)bpf_get_current_task();
	return BPF_CORE_READ(task, stack) + THREAD_SIZE - bpf_core_type_size(struct pt_regs___user);
}

#if defined(__TARGET_ARCH_arm64)
/*
 * before_main reports whether start_thread() of asm/processor.h has just set the registers for
 * another program: they are 0 except for the stack, the first instruction and the return value
 * of execve(2). The kernel closes close-on-exec descriptors after that, and by then the number
 * of the system call is lost; x86-64 keeps it.
 */
static __always_inline bool before_main(const struct pt_regs___user *regs, bool compat)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	u64 sp = compat ? BPF_CORE_READ(regs, regs[SP32]) : BPF_CORE_READ(regs, sp);

	return sp && sp == BPF_CORE_READ(task, mm, start_stack) && !BPF_CORE_READ(regs, regs[1]) &&
	       !BPF_CORE_READ(regs, regs[29]) && !BPF_CORE_READ(regs, regs[30]);
}
#endif

struct user_call {
	s32 number; /* of the system call; -1: none or unknown */
	u32 compat; /* by the 32-bit table */
	u32 arg1, arg2;
};

/* current_user_call returns the system call of the current task. */
static __always_inline struct user_call current_user_call(void)
{
	struct user_call call = { .number = -1 };
	const struct pt_regs___user *regs = user_registers();

#if defined(__TARGET_ARCH_x86)
	call.number = (s32)READ(regs, orig_ax);
	call.compat = READ(regs, cs) == USER32_CS;
	call.arg1 = (u32)(call.compat ? READ(regs, bx) : READ(regs, di));
	call.arg2 = (u32)(call.compat ? READ(regs, cx) : READ(regs, si));
#else
	call.number = READ(regs, syscallno);
	call.compat = READ(regs, pstate) & MODE32_BIT;
	if (call.number == NO_SYSCALL && before_main(regs, call.compat))
		call.number = call.compat ? 11 : 221; /* execve or execveat */
	call.arg1 = (u32)READ(regs, regs[0]);
	call.arg2 = (u32)READ(regs, regs[1]);
#endif
	return call;
}

/* is_close reports whether the number is that of close(2) in the table of the architecture. */
static __always_inline bool is_close(u64 number, bool compat)
{
#if defined(__TARGET_ARCH_x86)
	return number == (compat ? 6 : 3);
#else
	return number == (compat ? 6 : 57);
#endif
}

/* is_execve reports whether a system call is execve(2) or execveat(2). */
static __always_inline bool is_execve(struct user_call call)
{
#if defined(__TARGET_ARCH_x86)
	return call.compat ? call.number == 11 || call.number == 358
			   : call.number == 59 || call.number == 322;
#else
	return call.compat ? call.number == 11 || call.number == 387
			   : call.number == 221 || call.number == 281;
#endif
}

/* in_connect reports whether the current task is in connect(2). */
static __always_inline bool in_connect(void)
{
	struct user_call call = current_user_call();

#if defined(__TARGET_ARCH_x86)
	return call.number == (call.compat ? 362 : 42);
#else
	return call.number == (call.compat ? 283 : 203);
#endif
}

#pragma clang diagnostic pop

#endif
