/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* How the fields of a socket, and of what hangs on it, are read. */
#ifndef READ_H
#define READ_H

/*
 * Both ways follow pointers as BPF_CORE_READ does. That calls the kernel for each
 * step, at sixty instructions. From 6.2 on, bpf_rdonly_cast makes an address a
 * pointer that the verifier knows, and plain loads do, which the kernel guards: of
 * what is not mapped, they read 0. The programs are compiled for each way, because
 * a constant that the verifier resolves would still be loaded for each field.
 *
 * sock_at: the socket at an address, whoever the address comes from. The cast costs
 * nothing: the verifier makes an assignment of it.
 */
#ifdef PLAIN_LOADS

extern void *bpf_rdonly_cast(const void *object, u32 btf_id) __ksym;

#define READ(src, ...) ___arrow((src), __VA_ARGS__)
#define READ_BIT(src, field) BPF_CORE_READ_BITFIELD(src, field)
#define sock_at(address)                                                                           \
	((const struct sock *)bpf_rdonly_cast((const void *)(address),                             \
					      bpf_core_type_id_kernel(struct tcp_sock)))

#else

#define READ(src, ...) BPF_CORE_READ(src, __VA_ARGS__)
#define READ_BIT(src, field) BPF_CORE_READ_BITFIELD_PROBED(src, field)
#define sock_at(address) ((const struct sock *)(address))

#endif

#endif
