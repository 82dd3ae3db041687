/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* How the fields of a socket, and of what hangs on it, are read. */
#ifndef READ_H
#define READ_H

/* Setting, written by internal/probe: the kernel has bpf_rdonly_cast (6.2). */
const volatile u8 plain_loads = 0;

extern void *bpf_rdonly_cast(const void *object, u32 btf_id) __ksym __weak;

/*
 * READ follows pointers as BPF_CORE_READ does. That calls the kernel for each
 * step, at sixty instructions; where a pointer has the type that sock_at gives,
 * a plain load does, which the kernel guards: of what is not mapped, it reads 0.
 */
#define READ(src, ...)                                                                             \
	(plain_loads ? ___arrow((src), __VA_ARGS__) : BPF_CORE_READ(src, __VA_ARGS__))

#define READ_BIT(src, field)                                                                       \
	(plain_loads ? BPF_CORE_READ_BITFIELD(src, field)                                          \
		     : BPF_CORE_READ_BITFIELD_PROBED(src, field))

/* sock_at: the socket at an address, whoever the address comes from. It costs
 * nothing: the verifier makes an assignment of it. */
#define sock_at(address)                                                                           \
	((const struct sock *)(plain_loads                                                         \
				       ? bpf_rdonly_cast((const void *)(address),                  \
							 bpf_core_type_id_kernel(struct tcp_sock)) \
				       : (const void *)(address)))

#endif
