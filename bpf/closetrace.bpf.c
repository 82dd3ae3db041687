//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The programs, grouped by hook: fentry, kprobe and tracepoint of one hook call the same
 * handler. internal/probe chooses which of them are loaded.
 */
#include "kernel.h"
#include "event.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "read.h"
#include "compat.h"
#include "maps.h"
#include "filter.h"
#include "capture.h"
#include "notes.h"
#include "facts.h"
#include "calls.h"
#include "replies.h"
#include "app.h"
#include "states.h"
#include "iterate.h"

char LICENSE[] SEC("license") = "GPL";

/* close(2), exit, execve, dup2: tcp_close takes the lock, __tcp_close decides. */

SEC("fentry/tcp_close")
int fentry_tcp_close(u64 *ctx)
{
	return enter_close(ctx, sock_at(ctx[0]), ctx[1]);
}

SEC("kprobe/tcp_close")
int kprobe_tcp_close(struct pt_regs *ctx)
{
	return enter_close(ctx, sock_at(ARG1(ctx)), ARG2(ctx));
}

SEC("fexit/tcp_close")
int fexit_tcp_close(u64 *ctx)
{
	return leave_close();
}

SEC("kretprobe/tcp_close")
int kretprobe_tcp_close(struct pt_regs *ctx)
{
	return leave_close();
}

SEC("fentry/__tcp_close")
int fentry_tcp_close_locked(u64 *ctx)
{
	return enter_locked_close(ctx, sock_at(ctx[0]), ctx[1]);
}

SEC("kprobe/__tcp_close")
int kprobe_tcp_close_locked(struct pt_regs *ctx)
{
	return enter_locked_close(ctx, sock_at(ARG1(ctx)), ARG2(ctx));
}

SEC("fexit/__tcp_close")
int fexit_tcp_close_locked(u64 *ctx)
{
	return leave_locked_close();
}

SEC("kretprobe/__tcp_close")
int kretprobe_tcp_close_locked(struct pt_regs *ctx)
{
	return leave_locked_close();
}

/* shutdown(2): inet_shutdown sees every call, tcp_shutdown those that reach TCP. */

SEC("fentry/inet_shutdown")
int fentry_inet_shutdown(u64 *ctx)
{
	return enter_shutdown(ctx, (const struct socket *)ctx[0], ctx[1]);
}

SEC("kprobe/inet_shutdown")
int kprobe_inet_shutdown(struct pt_regs *ctx)
{
	return enter_shutdown(ctx, (const struct socket *)ARG1(ctx), ARG2(ctx));
}

SEC("fexit/inet_shutdown")
int fexit_inet_shutdown(u64 *ctx)
{
	return leave_shutdown(ctx[2]);
}

SEC("kretprobe/inet_shutdown")
int kretprobe_inet_shutdown(struct pt_regs *ctx)
{
	return leave_shutdown(RESULT(ctx));
}

SEC("fentry/tcp_shutdown")
int fentry_tcp_shutdown(u64 *ctx)
{
	return enter_tcp_shutdown(ctx, sock_at(ctx[0]), ctx[1]);
}

SEC("kprobe/tcp_shutdown")
int kprobe_tcp_shutdown(struct pt_regs *ctx)
{
	return enter_tcp_shutdown(ctx, sock_at(ARG1(ctx)), ARG2(ctx));
}

SEC("fexit/tcp_shutdown")
int fexit_tcp_shutdown(u64 *ctx)
{
	return leave_shutdown(0);
}

SEC("kretprobe/tcp_shutdown")
int kretprobe_tcp_shutdown(struct pt_regs *ctx)
{
	return leave_shutdown(0);
}

/* FINs, and tcp_disconnect, which may send a RST. */

SEC("fentry/tcp_send_fin")
int fentry_tcp_send_fin(u64 *ctx)
{
	return on_fin(ctx, sock_at(ctx[0]));
}

SEC("kprobe/tcp_send_fin")
int kprobe_tcp_send_fin(struct pt_regs *ctx)
{
	return on_fin(ctx, sock_at(ARG1(ctx)));
}

SEC("fentry/tcp_disconnect")
int fentry_tcp_disconnect(u64 *ctx)
{
	return enter_disconnect(ctx, sock_at(ctx[0]));
}

SEC("kprobe/tcp_disconnect")
int kprobe_tcp_disconnect(struct pt_regs *ctx)
{
	return enter_disconnect(ctx, sock_at(ARG1(ctx)));
}

SEC("fexit/tcp_disconnect")
int fexit_tcp_disconnect(u64 *ctx)
{
	return leave_disconnect(ctx[2]);
}

SEC("kretprobe/tcp_disconnect")
int kretprobe_tcp_disconnect(struct pt_regs *ctx)
{
	return leave_disconnect(RESULT(ctx));
}

/* SOCK_DESTROY, for example ss -K. */

SEC("fentry/tcp_abort")
int fentry_tcp_abort(u64 *ctx)
{
	return enter_abort(ctx, sock_at(ctx[0]), ctx[1]);
}

SEC("kprobe/tcp_abort")
int kprobe_tcp_abort(struct pt_regs *ctx)
{
	return enter_abort(ctx, sock_at(ARG1(ctx)), ARG2(ctx));
}

SEC("fexit/tcp_abort")
int fexit_tcp_abort(u64 *ctx)
{
	return leave_abort(ctx[2]);
}

SEC("kretprobe/tcp_abort")
int kretprobe_tcp_abort(struct pt_regs *ctx)
{
	return leave_abort(RESULT(ctx));
}

/* Endings by a segment or a timer. */

SEC("fentry/tcp_done")
int fentry_tcp_done(u64 *ctx)
{
	return on_done(ctx, 0, sock_at(ctx[0]));
}

SEC("kprobe/tcp_done")
int kprobe_tcp_done(struct pt_regs *ctx)
{
	return on_done(ctx, ENTRY_CALLER(ctx), sock_at(ARG1(ctx)));
}

/* The second argument exists from 5.12 on. */

SEC("fentry/tcp_reset")
int fentry_tcp_reset(u64 *ctx)
{
	return on_reset(sock_at(ctx[0]), (const struct sk_buff *)ctx[1]);
}

SEC("kprobe/tcp_reset")
int kprobe_tcp_reset(struct pt_regs *ctx)
{
	return on_reset(sock_at(ARG1(ctx)), (const struct sk_buff *)ARG2(ctx));
}

SEC("fentry/tcp_fin")
int fentry_tcp_fin(u64 *ctx)
{
	const struct sock *sk = sock_at(ctx[0]);

	return on_peer_fin(ctx, sk, state_of(sk));
}

SEC("kprobe/tcp_fin")
int kprobe_tcp_fin(struct pt_regs *ctx)
{
	const struct sock *sk = sock_at(ARG1(ctx));

	return on_peer_fin(ctx, sk, state_of(sk));
}

/* Writes that fail. */

SEC("fentry/sk_stream_error")
int fentry_sk_stream_error(u64 *ctx)
{
	return on_stream_error(ctx, sock_at(ctx[0]), ctx[1], ctx[2]);
}

SEC("kprobe/sk_stream_error")
int kprobe_sk_stream_error(struct pt_regs *ctx)
{
	return on_stream_error(ctx, sock_at(ARG1(ctx)), ARG2(ctx), ARG3(ctx));
}

/* close(2) on a shared descriptor, if requested. From 6.6 on close(2) calls filp_flush instead of
 * filp_close. Tracepoint mode uses the system call. */

SEC("fentry/filp_flush")
int fentry_filp_flush(u64 *ctx)
{
	return on_descriptor_closed(ctx, (const struct file *)ctx[0]);
}

SEC("kprobe/filp_flush")
int kprobe_filp_flush(struct pt_regs *ctx)
{
	return on_descriptor_closed(ctx, (const struct file *)ARG1(ctx));
}

SEC("fentry/filp_close")
int fentry_filp_close(u64 *ctx)
{
	return on_descriptor_closed(ctx, (const struct file *)ctx[0]);
}

SEC("kprobe/filp_close")
int kprobe_filp_close(struct pt_regs *ctx)
{
	return on_descriptor_closed(ctx, (const struct file *)ARG1(ctx));
}

SEC("raw_tp/sys_enter")
int tracepoint_sys_enter(u64 *ctx)
{
	return on_sys_enter(ctx, ctx[1]);
}

/* A message with descriptors (SCM_RIGHTS) is dropped. */

SEC("fentry/__scm_destroy")
int fentry_scm_destroy(u64 *ctx)
{
	return on_scm_destroy((const struct scm_cookie *)ctx[0]);
}

SEC("kprobe/__scm_destroy")
int kprobe_scm_destroy(struct pt_regs *ctx)
{
	return on_scm_destroy((const struct scm_cookie *)ARG1(ctx));
}

/* Before 6.10 the tracepoint below does not fire for RSTs without a socket. */

SEC("fentry/tcp_v4_send_reset")
int fentry_tcp_v4_send_reset(u64 *ctx)
{
	return on_send_reset(ctx, 0, sock_at(ctx[0]), (const struct sk_buff *)ctx[1]);
}

SEC("kprobe/tcp_v4_send_reset")
int kprobe_tcp_v4_send_reset(struct pt_regs *ctx)
{
	return on_send_reset(ctx, ENTRY_CALLER(ctx), sock_at(ARG1(ctx)),
			     (const struct sk_buff *)ARG2(ctx));
}

SEC("fentry/tcp_v6_send_reset")
int fentry_tcp_v6_send_reset(u64 *ctx)
{
	return on_send_reset(ctx, 0, sock_at(ctx[0]), (const struct sk_buff *)ctx[1]);
}

SEC("kprobe/tcp_v6_send_reset")
int kprobe_tcp_v6_send_reset(struct pt_regs *ctx)
{
	return on_send_reset(ctx, ENTRY_CALLER(ctx), sock_at(ARG1(ctx)),
			     (const struct sk_buff *)ARG2(ctx));
}

/* netfilter's REJECT with a RST: (net, sk, skb, hook), without sk on old kernels. */

SEC("fentry/nf_send_reset")
int fentry_nf_send_reset(u64 *ctx)
{
	return on_reject(ctx, (const struct net *)ctx[0], (const struct sk_buff *)ctx[2], ctx[3]);
}

SEC("kprobe/nf_send_reset")
int kprobe_nf_send_reset(struct pt_regs *ctx)
{
	return on_reject_args(ctx, (const struct net *)ARG1(ctx), ARG2(ctx), ARG3(ctx), ARG4(ctx));
}

SEC("fentry/nf_send_reset6")
int fentry_nf_send_reset6(u64 *ctx)
{
	return on_reject(ctx, (const struct net *)ctx[0], (const struct sk_buff *)ctx[2], ctx[3]);
}

SEC("kprobe/nf_send_reset6")
int kprobe_nf_send_reset6(struct pt_regs *ctx)
{
	return on_reject_args(ctx, (const struct net *)ARG1(ctx), ARG2(ctx), ARG3(ctx), ARG4(ctx));
}

/* The reason is the third argument from 6.10 on, the second from 7.2 on. The
 * barrier keeps clang from folding the two reads into one at a computed
 * offset, which the verifier does not allow on a context. */

SEC("fentry/tcp_send_active_reset")
int fentry_tcp_send_active_reset(u64 *ctx)
{
	u64 reason = 0;

	if (reset_reason_arg == 3) {
		reason = ctx[2];
		barrier_var(reason);
	} else if (reset_reason_arg == 2) {
		reason = ctx[1];
	}
	return on_active_reset(ctx, 0, sock_at(ctx[0]), reason);
}

SEC("kprobe/tcp_send_active_reset")
int kprobe_tcp_send_active_reset(struct pt_regs *ctx)
{
	u64 reason = 0;

	if (reset_reason_arg == 3) {
		reason = ARG3(ctx);
		barrier_var(reason);
	} else if (reset_reason_arg == 2) {
		reason = ARG2(ctx);
	}
	return on_active_reset(ctx, ENTRY_CALLER(ctx), sock_at(ARG1(ctx)), reason);
}

/* (sk, skb, reason from 6.10 on); without skb it is an active reset. */

SEC("raw_tp/tcp_send_reset")
int tracepoint_tcp_send_reset(u64 *ctx)
{
	u32 reason = trace_reset_reason ? ctx[2] : 0;

	if (ctx[1])
		return on_reply(ctx, 0, sock_at(ctx[0]), (const struct sk_buff *)ctx[1], reason);
	return by_tracepoints ? on_active_reset(ctx, 0, sock_at(ctx[0]), reason) : 0;
}

/* Tracepoint mode only. Two programs on one tracepoint, because softirq may interrupt the program
 * of a task, and the kernel does not run a program inside itself. */

SEC("raw_tp/inet_sock_set_state")
int tracepoint_task_state(u64 *ctx)
{
	return on_task_state(ctx);
}

SEC("raw_tp/inet_sock_set_state")
int tracepoint_softirq_state(u64 *ctx)
{
	return on_softirq_state(ctx);
}

SEC("raw_tp/tcp_destroy_sock")
int tracepoint_tcp_destroy_sock(u64 *ctx)
{
	return on_destroy(ctx, sock_at(ctx[0]));
}

SEC("raw_tp/signal_deliver")
int tracepoint_signal_deliver(u64 *ctx)
{
	return on_signal(ctx[0]);
}

SEC("raw_tp/task_rename")
int tracepoint_task_rename(u64 *ctx)
{
	return on_rename((const struct task_struct *)ctx[0]);
}

/* Iterators over sockets and descriptors, and the change of state that gives exact ages. */

SEC("tp_btf/inet_sock_set_state")
int trace_state_change(u64 *ctx)
{
	return on_state_change((struct sock *)ctx[0], ctx[1], ctx[2]);
}

SEC("iter/tcp")
int iterate_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;

	return sk ? on_tcp_socket(ctx->meta->seq, sk) : 0;
}

SEC("iter/task_file")
int iterate_task_file(struct bpf_iter__task_file *ctx)
{
	const struct task_struct *task = ctx->task;
	const struct file *file = ctx->file;

	return task && file ? on_descriptor(ctx->meta->seq, task, ctx->fd, file) : 0;
}
