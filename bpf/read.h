/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Reads the fields of a socket and of the objects that it points to. */
#ifndef READ_H
#define READ_H

/*
 * Both variants follow pointers as BPF_CORE_READ does, which calls a helper for each step: sixty
 * instructions. From 6.2 on, bpf_rdonly_cast turns an address into a pointer that the verifier
 * accepts in plain loads; the kernel catches faults, and unmapped memory reads as 0. The
 * programs are compiled once for each variant, because testing a constant for each field would
 * still cost a load.
 *
 * sock_at returns the socket at an address. The cast costs nothing: the verifier turns it into
 * an assignment.
 *
 * walkable returns a task whose pointers are followed. For each of them the verifier compares a
 * trusted pointer with all types of the kernel, which was a quarter of the time to attach; but each
 * read is seven instructions more.
 */
#ifdef PLAIN_LOADS

extern void *bpf_rdonly_cast(const void *object, u32 btf_id) __ksym;

#define READ(src, ...) ___arrow((src), __VA_ARGS__)
#define READ_BIT(src, field) BPF_CORE_READ_BITFIELD(src, field)
#define sock_at(address)                                                                           \
	((const struct sock *)bpf_rdonly_cast((const void *)(address),                             \
					      bpf_core_type_id_kernel(struct tcp_sock)))
#define walkable(task)                                                                             \
	((const struct task_struct *)bpf_rdonly_cast(task,                                         \
						     bpf_core_type_id_kernel(struct task_struct)))

#else

#define READ(src, ...) BPF_CORE_READ(src, __VA_ARGS__)
#define READ_BIT(src, field) BPF_CORE_READ_BITFIELD_PROBED(src, field)
#define sock_at(address) ((const struct sock *)(address))
#define walkable(task) (task)

#endif

#endif
