/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Mistakes of applications: failed writes, and close(2) on shared descriptors. */
#ifndef APP_H
#define APP_H

#define EPIPE 32
#define MSG_NOSIGNAL 0x4000 /* include/linux/socket.h */

/*
 * on_stream_error handles sk_stream_error: a write failed, with the socket lock held. The
 * kernel returns a pending error before EPIPE. So the application gets EPIPE only if there is
 * no other error, and SIGPIPE unless it passed MSG_NOSIGNAL.
 */
static __always_inline int on_stream_error(void *ctx, const struct sock *sk, u32 flags, s32 error)
{
	struct fact fact = { .kind = EVENT_EPIPE };
	s32 pending = BPF_CORE_READ(sk, sk_err);

	if (error != -EPIPE || (pending && pending != EPIPE) || !is_tcp(sk))
		return 0;
	fact.how = !(flags & MSG_NOSIGNAL);
	return report_standalone(ctx, sk, &fact);
}

/* tcp_socket_of returns the TCP socket of a file, or NULL. */
static __always_inline const struct sock *tcp_socket_of(const struct file *file)
{
	const struct socket *socket;
	const struct sock *sk;
	u16 family;

	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	sk = sock_at(BPF_CORE_READ(socket, sk));
	if (!sk || !is_tcp(sk) || BPF_CORE_READ(sk, sk_type) != SOCK_STREAM)
		return NULL;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	return family == AF_INET || family == AF_INET6 ? sk : NULL;
}

/* on_descriptor_closed reports that a task closed a descriptor of a socket that has other
 * references, so that no tcp_close follows. A process that exits closes all of them. */
static __always_inline int on_descriptor_closed(void *ctx, const struct file *file)
{
	const struct task_struct *task = (const void *)bpf_get_current_task();
	const struct sock *sk;
	struct event *e;
	s64 left;
	u64 now;

	if (BPF_CORE_READ(task, flags) & PF_EXITING)
		return 0;
	left = file_references(file) - 1;
	if (left <= 0)
		return 0;
	sk = tcp_socket_of(file);
	if (!sk || !wanted(sk, true))
		return 0;
	now = bpf_ktime_get_ns();
	if (want_stacks)
		send_stack(ctx, sk, now);
	e = new_event(EVENT_SHARED, now);
	if (!e)
		return 0;
	e->progress.flags = TASK_CONTEXT;
	capture_task(e);
	capture_socket(e, sk);
	capture_decision(e, sk);
	capture_owner(e, sk);
	capture_timers(e, sk);
	e->progress.result = left;
	send(e);
	return 0;
}

/* on_sys_enter handles the entry of close(2), which has not removed the descriptor yet. */
static __always_inline int on_sys_enter(void *ctx, u64 number)
{
	const struct task_struct *task;
	struct file **table, *file = NULL;
	const struct fdtable *fdt;
	struct user_call call;

	if (!is_close(number, false) && !is_close(number, true))
		return 0;
	call = current_user_call();
	if (!is_close(number, call.compat))
		return 0;
	task = (const void *)bpf_get_current_task();
	fdt = BPF_CORE_READ(task, files, fdt);
	if (call.arg1 >= BPF_CORE_READ(fdt, max_fds))
		return 0;
	table = BPF_CORE_READ(fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), &table[call.arg1]);
	return file ? on_descriptor_closed(ctx, file) : 0;
}

/* Number of descriptors of a message that are checked; a message holds at most 253. */
#define SCM_CHECKED 32

/* on_scm_destroy notes the sockets whose last descriptor is in a message that the kernel
 * drops: tcp_close follows. */
static __always_inline int on_scm_destroy(const struct scm_cookie *scm)
{
	const struct scm_fp_list *list = BPF_CORE_READ(scm, fp);
	u8 yes = 1;

	if (!list)
		return 0;
	for (int i = 0; i < SCM_CHECKED && i < BPF_CORE_READ(list, count); i++) {
		const struct file *file = NULL;
		u64 sk;

		bpf_probe_read_kernel(&file, sizeof(file),
				      (const void *)list + bpf_core_field_offset(list->fp) +
					      i * sizeof(file));
		if (!file || file_references(file) != 1)
			continue;
		sk = (u64)tcp_socket_of(file);
		if (sk && !bpf_map_update_elem(&scm_dropped, &sk, &yes, BPF_NOEXIST))
			__sync_fetch_and_add(&scm_drops, 1);
	}
	return 0;
}

#endif
