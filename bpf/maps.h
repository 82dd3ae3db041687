/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* State and settings: what each map holds, who writes and who deletes. */
#ifndef MAPS_H
#define MAPS_H

/* Settings, written by internal/probe before loading. */
const volatile u8 reset_reason_arg = 0;	  /* tcp_send_active_reset: 2, 3; 0 none */
const volatile u8 trace_reset_reason = 0; /* tcp:tcp_send_reset has a third argument */
const volatile u8 has_inet_shutdown = 0;  /* programs sit on inet_shutdown */
const volatile u8 has_locked_close = 0;	  /* programs sit on __tcp_close */
const volatile u8 has_disconnect = 0;	  /* a program sits on tcp_disconnect */
const volatile u8 has_task_storage = 0;	  /* map `calls` is task storage */
const volatile u8 by_tracepoints = 0;	  /* none of these: tracepoint mode */
const volatile u8 want_stacks = 0;	  /* send struct call_stack */
const volatile u8 want_peer_fins = 0;	  /* send all FINs received */
const volatile u32 wakeup_bytes = 0;	  /* wake the reader from this fill on */

/* The filter, likewise. */
const volatile u32 filter_netns = 0;  /* 0: any */
const volatile u16 filter_family = 0; /* by the wire; 0: any */
const volatile u8 filter_cgroup = 0;  /* by filter_cgroups */

enum filter_field { FILTER_PID, FILTER_PORT, FILTER_LOCAL_PORT, FILTER_REMOTE_PORT, FILTER_FIELDS };

const volatile u32 filter_values_of[FILTER_FIELDS] = {}; /* how many; 0: any will do */
const volatile u32 filter_value_of[FILTER_FIELDS] = {};	 /* the one, if there is one */

struct filter_key {
	enum filter_field field;
	u32 value;
};

/* What a filter lets pass, where it is several values: filled by internal/probe
 * before attaching. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct filter_key);
	__type(value, u8);
} filter_values SEC(".maps");

/* The cgroups whose endings it lets pass, with those of all below them, by id. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, u8);
} filter_cgroups SEC(".maps");

/* The events, to internal/probe. Its size is set there. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
	__type(value, struct event);
} ring SEC(".maps");

/* So that its Go twin is generated, too. */
const struct call_stack *call_stack_type __attribute__((unused));

enum counter {
	COUNT_LOST,	  /* records that found the ring buffer full */
	COUNT_SUPPRESSED, /* resets in reply beyond REPLIES_A_TICK */
	COUNT_NO_MEMORY,  /* calls that there was no memory to follow */
	COUNT_BEGUN,	  /* calls followed; not in tracepoint mode */
	COUNT_ENDED,	  /* of these, those whose return was seen */
	COUNTERS,
};

/* Counted per CPU, added up by internal/probe. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, enum counter);
	__type(value, u64);
} counters SEC(".maps");

/*
 * The close or shutdown that a task is in. A task is in one at a time: tcp_close
 * does not nest. Softirqs that run in the middle of it, on the same task, are
 * told apart by the socket.
 */
struct call {
	struct event event;
	u64 tid;	/* whose slot it is; 0: nobody's, or not a slot */
	u64 sk;		/* whose call is open; 0: none */
	u64 entered_sk; /* whose tcp_close has been entered, and when */
	u64 entered_ns;
	u64 began_jiffies; /* of a close that may wait; else 0 */
	u8 reported;	   /* the event has gone out already (tracepoint mode) */
	u8 last_state;	   /* newest state seen (tracepoint mode) */
	u8 child_before;   /* state of the child that is being torn down */
	u8 waiting;	   /* may be blocked by SO_LINGER (tracepoint mode) */
	u8 disconnects;	   /* tcp_disconnect calls open inside */
	u8 remembered;	   /* event.parties is filled: see remember() */
	u8 pad[2];
};

/* One a task, made at its first close, freed by the kernel when it ends. Before
 * 5.11 tracing programs have no task storage: internal/probe then makes it an
 * LRU hash by thread id. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u32);
	__type(value, struct call);
} calls SEC(".maps");

/* Sockets whose last descriptor was in a message that went away, until their
 * tcp_close. scm_drops says how many, so that other closes need not look. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, u8);
} scm_dropped SEC(".maps");

u32 scm_drops = 0;

/* A scan or a SYN flood makes the kernel answer with resets at the rate of the
 * attacker. Those to nobody's socket are reported up to a rate, per CPU. */
#define REPLIES_A_TICK 256
#define REPLY_TICK_NS 100000000ULL

struct reply_rate {
	u64 tick;    /* number of the current one */
	u64 replies; /* reported in it */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct reply_rate);
} reply_rates SEC(".maps");

/* Kernel stacks of resets that no call explains, by id; read by
 * internal/probe. */
#define STACK_DEPTH 32

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 1024);
	__uint(key_size, sizeof(u32));
	__uint(value_size, STACK_DEPTH * sizeof(u64));
} stacks SEC(".maps");

/* count is atomic, because softirq, or another task, may come in between. */
static __always_inline void count(enum counter counter)
{
	u64 *n = bpf_map_lookup_elem(&counters, &counter);

	if (n)
		__sync_fetch_and_add(n, 1);
}

const struct call no_call = {};

/* stored_call: what `calls` holds for the current task, made if it is asked for, or
 * NULL. */
static __always_inline struct call *stored_call(bool make)
{
	u32 tid;

	if (has_task_storage)
		return bpf_task_storage_get(&calls, bpf_get_current_task_btf(), NULL,
					    make ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	tid = (u32)bpf_get_current_pid_tgid();
	if (make)
		bpf_map_update_elem(&calls, &tid, &no_call, BPF_NOEXIST);
	return bpf_map_lookup_elem(&calls, &tid);
}

#ifdef PLAIN_LOADS

/*
 * Where most calls are, by thread id: found in a fourth of the instructions that task
 * storage takes, and nothing is allocated. A task has its slot as long as the call
 * takes; the few that find theirs taken have `calls`, from then on. In tracepoint
 * mode all have, because there the end of a call is not always seen.
 */
#define CALL_SLOTS 4096

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CALL_SLOTS);
	__type(key, u32);
	__type(value, struct call);
} call_slots SEC(".maps");

u32 slots_found_taken = 0;

/* call_of_task: where the call of the current task is, made if it is asked for, or
 * NULL. A kernel that has plain loads has cmpxchg (5.12), too. */
static __always_inline struct call *call_of_task(bool make)
{
	u64 tid = (u32)bpf_get_current_pid_tgid();
	u32 slot = tid % CALL_SLOTS;
	struct call *call = by_tracepoints ? NULL : bpf_map_lookup_elem(&call_slots, &slot);

	if (!call)
		return stored_call(make);
	if (call->tid == tid)
		return call;
	if (slots_found_taken) {
		struct call *stored = stored_call(false);

		if (stored)
			return stored;
	}
	if (!make)
		return NULL;
	if (!__sync_val_compare_and_swap(&call->tid, 0, tid))
		return call;
	slots_found_taken = 1;
	return stored_call(true);
}

/* close_call: nothing of it comes any more, and another task may have its slot: the
 * exchange comes after all that was written before. */
static __always_inline void close_call(struct call *call)
{
	call->sk = 0;
	__sync_lock_test_and_set(&call->tid, 0);
}

#else

static __always_inline struct call *call_of_task(bool make)
{
	return stored_call(make);
}

static __always_inline void close_call(struct call *call)
{
	call->sk = 0;
}

#endif

/* open_call: the call that the current task is in on any socket, or NULL. */
static __always_inline struct call *open_call(void)
{
	struct call *call = call_of_task(false);

	return call && call->sk ? call : NULL;
}

/* enter_call: the current task asks for sk to be closed, and waits for its lock. */
static __always_inline void enter_call(const struct sock *sk)
{
	struct call *call = call_of_task(true);

	if (!call)
		return; /* counted when the call begins */
	call->entered_sk = (u64)sk;
	call->entered_ns = bpf_ktime_get_ns();
}

/* begin_call: a new call of the current task on sk; NULL if there is no memory. */
static __always_inline struct call *begin_call(const struct sock *sk, u8 kind)
{
	struct call *call = call_of_task(true);
	u64 now;

	if (!call) {
		count(COUNT_NO_MEMORY);
		return NULL;
	}
	if (!by_tracepoints)
		count(COUNT_BEGUN);
	now = kind == EVENT_CLOSE && call->entered_sk == (u64)sk ? call->entered_ns
								 : bpf_ktime_get_ns();
	__builtin_memset(&call->event.course, 0, sizeof(call->event.course));
	__builtin_memset(&call->sk, 0, sizeof(*call) - __builtin_offsetof(struct call, sk));
	call->sk = (u64)sk;
	call->event.course.time_ns = now;
	call->event.course.kind = kind;
	call->event.course.flags = TASK_CONTEXT;
	return call;
}

#endif
