/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * What differs between kernels: for each difference the change, the flavour of
 * the type, one accessor. No version is tested anywhere: distributions port
 * changes back, so the running kernel's BTF decides.
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

/* file_is_dying: the last reference is gone and __fput is under way. */
static __always_inline bool file_is_dying(const struct file *file)
{
	const struct file___f_count *old = (const void *)file;
	const struct file___f_ref *new = (const void *)file;

	if (bpf_core_field_exists(new->f_ref))
		return (s64)READ(new, f_ref.refcnt.counter) < 0;
	return READ(old, f_count.counter) == 0;
}

/* file_references: descriptors, and calls in progress that hold the file.
 * file_ref_t counts from 0 for one. */
static __always_inline s64 file_references(const struct file *file)
{
	const struct file___f_count *old = (const void *)file;
	const struct file___f_ref *new = (const void *)file;

	if (bpf_core_field_exists(new->f_ref))
		return (s64)BPF_CORE_READ(new, f_ref.refcnt.counter) + 1;
	return BPF_CORE_READ(old, f_count.counter);
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

/* netns_is_gone: check_net() of include/net/net_namespace.h is false. */
static __always_inline bool netns_is_gone(const struct net *net)
{
	const struct ns_common___ref *ref = (const void *)&net->ns;
	const struct ns_common___count *count = (const void *)&net->ns;
	const struct net___count *old = (const void *)net;

	if (bpf_core_field_exists(ref->__ns_ref))
		return READ(ref, __ns_ref.refs.counter) == 0;
	if (bpf_core_field_exists(count->count))
		return READ(count, count.refs.counter) == 0;
	return READ(old, count.refs.counter) == 0;
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

/* sock.sk_cgrp_data has the cgroup in a field of its own from 5.15 on; before,
 * in one word with what net_cls and net_prio say, told by its two lowest bits.
 * It is there if the kernel was built with CONFIG_SOCK_CGROUP_DATA. */
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

/* socket_cgroup: where the task was that made the socket; of an accepted one,
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

/* The registers that user mode had, from which the system call is read:
 * bpf_task_pt_regs is in 5.15. Before, they are looked up where it finds them,
 * at the top of the kernel stack: task_pt_regs() of asm/processor.h. */
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
 * before_main: the task has just got the registers of a new program, by
 * start_thread() of asm/processor.h: they are 0, but for the stack, the first
 * instruction, and the return value of execve(2). What was close-on-exec is let
 * go after that, and by then the system call is forgotten; x86-64 keeps it.
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

/* current_user_call: the system call that the current task is in. */
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
		call.number = call.compat ? 11 : 221; /* execve; execveat is not told from it */
	call.arg1 = (u32)READ(regs, regs[0]);
	call.arg2 = (u32)READ(regs, regs[1]);
#endif
	return call;
}

/* is_close: the number is that of close(2) in one of the two tables. */
static __always_inline bool is_close(u64 number, bool compat)
{
#if defined(__TARGET_ARCH_x86)
	return number == (compat ? 6 : 3);
#else
	return number == (compat ? 6 : 57);
#endif
}

/* in_connect: the current task is in connect(2). */
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
