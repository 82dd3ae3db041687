/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* What applications get wrong around an ending. */
#ifndef APP_H
#define APP_H

#define EPIPE 32
#define MSG_NOSIGNAL 0x4000 /* include/linux/socket.h */

/*
 * sk_stream_error: a write failed, with the socket lock held. A pending error
 * is given out before EPIPE, so only without one, or with EPIPE pending, does
 * the application get EPIPE, and SIGPIPE unless it asked for none.
 */
static __always_inline int on_stream_error(const struct sock *sk, u32 flags, s32 error)
{
	struct fact fact = { .kind = EVENT_EPIPE, .stack = -1 };
	s32 pending = BPF_CORE_READ(sk, sk_err);

	if (error != -EPIPE || (pending && pending != EPIPE) || !is_tcp(sk))
		return 0;
	fact.sigpipe = !(flags & MSG_NOSIGNAL);
	return alone(sk, &fact);
}

#endif
