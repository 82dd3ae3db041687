/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Settings and maps. */
#ifndef MAPS_H
#define MAPS_H

/* Settings, written by internal/probe before loading. */
const volatile u8 reset_reason_arg = 0;	  /* tcp_send_active_reset: 2, 3; 0 none */
const volatile u8 trace_reset_reason = 0; /* tcp:tcp_send_reset has a third argument */
const volatile u8 has_inet_shutdown = 0;  /* programs sit on inet_shutdown */
const volatile u8 has_locked_close = 0;	  /* programs sit on __tcp_close */
const volatile u8 has_disconnect = 0;	  /* a program sits on tcp_disconnect */
const volatile u8 has_reset = 0;	  /* a program sits on tcp_reset */
const volatile u8 infer_fins = 0;	  /* no program sits on tcp_send_fin */
const volatile u8 has_rename = 0;	  /* a program sits on task:task_rename */
const volatile u8 has_task_storage = 0;	  /* map `calls` is task storage */
const volatile u8 by_tracepoints = 0;	  /* tracepoint mode: none of these programs */
const volatile u8 want_stacks = 0;	  /* send struct call_stack */
const volatile u8 want_peer_fins = 0;	  /* send all FINs received */
const volatile u32 noted_states = 0;	  /* bit n: count and note ordinary closes in state n */
const volatile u32 notes_per_cpu = 1;	  /* a power of two */
const volatile u64 close_wait_ns = 0;	  /* when a FIN counts as not answered */
const volatile u32 wakeup_bytes = 0;	  /* wake the reader if the ring has this much data */

/* The filter, written by internal/probe before loading. */
const volatile u8 has_filter = 0;     /* any of these is set */
const volatile u16 filter_family = 0; /* by the wire; 0: any */
const volatile u8 filter_cgroup = 0;  /* by filter_cgroups */

enum filter_field {
	FILTER_PORT,
	FILTER_LOCAL_PORT,
	FILTER_REMOTE_PORT,
	FILTER_NETNS,
	FILTER_FIELDS
};

const volatile u32 filter_values_of[FILTER_FIELDS] = {}; /* number of values; 0: no filter */
const volatile u32 filter_value_of[FILTER_FIELDS] = {};	 /* the value, if it is one */

struct filter_key {
	enum filter_field field;
	u32 value;
};

/* The values of filters with several values. internal/probe fills it before attaching. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct filter_key);
	__type(value, u8);
} filter_values SEC(".maps");

/* The ids of cgroups that pass, with all below them. */
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

/* Keep the type, for bpf2go. */
const struct call_stack *call_stack_type __attribute__((unused));
const struct kernel_stack *kernel_stack_type __attribute__((unused));

/* The reader waits to be woken. internal/probe sets it, the next record clears it. */
u32 reader_sleeps = 0;

/* counts_closes reports whether ordinary closes are counted and noted. */
static __always_inline bool counts_closes(void)
{
	return noted_states;
}

/* counts_answers reports whether those that answer a FIN are. */
static __always_inline bool counts_answers(void)
{
	return noted_states >> TCP_CLOSE_WAIT & 1;
}

enum counter {
	COUNT_LOST,	  /* records that found the ring buffer full */
	COUNT_SUPPRESSED, /* RST replies over REPLIES_A_TICK */
	COUNT_NO_MEMORY,  /* calls and FINs that could not be kept: no memory */
	COUNT_BEGUN,	  /* calls followed; not in tracepoint mode */
	COUNT_ENDED,	  /* those of COUNT_BEGUN whose return was seen */
	COUNT_ACTIVE,	  /* closes that were counted and not reported: close.fin.active */
	COUNT_PASSIVE,	  /* the same: close.fin.passive */
	COUNT_PEER_FIN,	  /* FINs that they answered late: recv.fin */
	COUNTERS,
};

/* Keep the type, for bpf2go. */
const struct note *note_type __attribute__((unused));

/* The notes of each CPU in turn, a ring for each. User space maps them. Its size is set in
 * internal/probe. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct note);
} notes SEC(".maps");

/* When the FIN of the peer was received, until this side closes or shuts down; if counts_answers().
 * internal/probe removes those that a reported event answers. The place follows from the ports. */
#define FIN_BITS 14
#define FIN_HASH 2654435761u

struct open_fin {
	u64 sock; /* 0: free */
	u64 received;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct open_fin);
} open_fins SEC(".maps");

/* Keep the type, for bpf2go. */
const struct open_fin *open_fin_type __attribute__((unused));

/* The same by socket, of those whose place is taken; on kernels without plain loads, of all. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, u64);
	__type(value, u64);
} more_fins SEC(".maps");

u32 fins_elsewhere = 0; /* more_fins may have any */

/* What a CPU has counted. On two cache lines of its own. */
struct cpu_counts {
	u64 of[COUNTERS];
	u64 notes; /* made */
	u64 pad[7];
};

/* Keep the types, for bpf2go. */
const struct cpu_counts *cpu_counts_type __attribute__((unused));
const enum counter *counter_type __attribute__((unused));

/* By CPU. internal/probe maps it and adds up; its size is set there. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct cpu_counts);
} counts SEC(".maps");

/*
 * The call that a task is in: a close, shutdown, disconnect or abort. A task is in one at a
 * time, because tcp_close does not nest. Softirqs that interrupt it on the same task are
 * distinguished by the socket.
 */
struct call {
	struct event event;
	u64 tid;	/* owner of the slot; 0: free, or not a slot */
	u64 sk;		/* socket of the open call; 0: none */
	u64 entered_sk; /* socket whose tcp_close was entered, and when */
	u64 entered_ns;
	u64 began_jiffies; /* of a close that may wait; else 0 */
	u8 reported;	   /* the event was already sent (tracepoint mode) */
	u8 last_state;	   /* newest state seen (tracepoint mode) */
	u8 child_before;   /* state of the child that is being closed */
	u8 waiting;	   /* may be blocked by SO_LINGER (tracepoint mode) */
	u8 disconnects;	   /* tcp_disconnect calls that have not returned */
	u8 has_endpoints;  /* event.endpoints is filled */
	u8 pad[2];
};

/* One per task, created at its first close and freed by the kernel when the task ends. Before
 * 5.11 tracing programs have no task storage: internal/probe then uses an LRU hash by thread
 * id. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u32);
	__type(value, struct call);
} calls SEC(".maps");

/*
 * The close that a task is in, if it was counted and noted, for what may still happen in it: until
 * its return, or in tracepoint mode until the next one. By thread id. A close that finds another
 * task's in its place is not noted, as long as that task holds the lock of its socket: without the
 * lock, the close is over.
 */
#define NOTED_PLACES 4096

struct noted {
	u64 sk;	      /* 0: none */
	u64 received; /* when the FIN that it answers was received; 0: none */
	u32 tid;
	u32 place;	/* of the note */
	u32 first_sent; /* as in struct note */
	u32 snd_una;
	u8 before; /* as in struct progress */
	u8 shutdown_mask;
	u8 last_state; /* newest state seen after that of the FIN, or 0 (tracepoint mode) */
	u8 pad;
	u32 renamed; /* thread that got a new name, maybe by execve(2); 0: none */
};

struct noted noted_closes[NOTED_PLACES] = {};

/* Sockets whose last descriptor was in a dropped message, until their tcp_close. scm_drops is
 * their number, so that other closes need no look-up. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, u8);
} scm_dropped SEC(".maps");

u32 scm_drops = 0;

/* During a scan or a SYN flood the kernel sends RSTs at the rate of the attacker. Those without
 * a socket are reported up to a rate per CPU. */
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

/* The RST that tcp_reset processes on this CPU, until the tcp_done that follows. If the task was
 * moved to another CPU in between, it is not found. */
struct received_rst {
	u64 sk;	     /* 0: none */
	u32 snd_nxt; /* of sk: another socket at its address has another */
	u32 seq;
	u32 ack; /* 0 without ACK */
	u32 options;
	u16 window;
	u16 ip_id;
	u8 ttl;
	u8 flags;
	u8 pad[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct received_rst);
} received_rsts SEC(".maps");

/* The names that threads had before their last change of name: execve(2) is one. The kernel
 * closes close-on-exec descriptors after it. */
struct old_name {
	u8 comm[COMM_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, struct old_name);
} old_names SEC(".maps");

/* counts_here returns what this CPU counts. It is atomic, because softirq or another task may interrupt
 * it. */
static __always_inline struct cpu_counts *counts_here(void)
{
	u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&counts, &cpu);
}

/* count adds one. */
static __always_inline void count(enum counter counter)
{
	struct cpu_counts *here = counts_here();

	if (here)
		__sync_fetch_and_add(&here->of[counter], 1);
}

/* uncount takes back one of count. The sum over all CPUs stays right. */
static __always_inline void uncount(enum counter counter)
{
	struct cpu_counts *here = counts_here();

	if (here)
		__sync_fetch_and_add(&here->of[counter], -1);
}

/* current_task returns the current task, as a trusted pointer if plain loads can use it. */
static __always_inline const struct task_struct *current_task(void)
{
#ifdef PLAIN_LOADS
	return (const void *)bpf_get_current_task_btf();
#else
	return (const void *)bpf_get_current_task();
#endif
}

/* tid_of returns the thread id of the current task. The helper takes five times the instructions. */
static __always_inline u32 tid_of(const struct task_struct *current)
{
#ifdef PLAIN_LOADS
	return current->pid;
#else
	return (u32)bpf_get_current_pid_tgid();
#endif
}

static __always_inline u32 current_tid(void)
{
	return tid_of(current_task());
}

/* noted_of returns the place of a task in `noted_closes`. */
static __always_inline struct noted *noted_of(u32 tid)
{
	return &noted_closes[tid % NOTED_PLACES];
}

/* current_noted returns the noted close that the current task is in, on any socket, or NULL. */
static __always_inline struct noted *current_noted(void)
{
	struct noted *noted;
	u32 tid;

	if (!counts_closes())
		return NULL;
	tid = current_tid();
	noted = noted_of(tid);
	return noted->tid == tid && noted->sk ? noted : NULL;
}

/* end_noted frees the place of a noted close. The task that takes it next writes its id last: until
 * then the place must not have that of the task before. */
static __always_inline void end_noted(struct noted *noted)
{
	noted->tid = 0;
	barrier();
	noted->sk = 0;
}

/* leave_noted ends the noted close that the current task is in, and reports whether it is in one. */
static __always_inline bool leave_noted(void)
{
	struct noted *noted = current_noted();

	if (!noted)
		return false;
	end_noted(noted);
	return true;
}

const struct call no_call = {};

/* stored_call returns the entry of the current task in `calls`, or NULL. With make, it creates
 * the entry. */
static __always_inline struct call *stored_call(bool make)
{
	u32 tid;

	if (has_task_storage)
		return bpf_task_storage_get(&calls, bpf_get_current_task_btf(), NULL,
					    make ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	tid = current_tid();
	if (make)
		bpf_map_update_elem(&calls, &tid, &no_call, BPF_NOEXIST);
	return bpf_map_lookup_elem(&calls, &tid);
}

#ifdef PLAIN_LOADS

/*
 * Most calls are stored here, by thread id: that takes a quarter of the instructions of task
 * storage, and no allocation. A task owns its slot for the duration of the call. If the slot is
 * taken, the task uses `calls` from then on. In tracepoint mode all tasks use `calls`, because
 * the end of a call is not always seen there.
 */
#define CALL_SLOTS 4096

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CALL_SLOTS);
	__type(key, u32);
	__type(value, struct call);
} call_slots SEC(".maps");

u32 slots_found_taken = 0;

/* call_of_task returns the call of the current task, or NULL. With make, it creates it. A kernel
 * with plain loads also has cmpxchg (5.12). */
static __always_inline struct call *call_of_task(bool make)
{
	u64 tid = current_tid();
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

/* close_call ends a call and frees its slot for another task. The exchange orders all earlier
 * writes before it. */
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

/* open_call returns the call that the current task is in, on any socket, or NULL. */
static __always_inline struct call *open_call(void)
{
	struct call *call = call_of_task(false);

	return call && call->sk ? call : NULL;
}

/* enter_call notes that the current task closes sk and waits for its lock. */
static __always_inline void enter_call(const struct sock *sk)
{
	struct call *call = call_of_task(true);

	if (!call)
		return; /* counted when the call begins */
	call->entered_sk = (u64)sk;
	call->entered_ns = bpf_ktime_get_ns();
}

/* begin_call begins a call of the current task on sk. It returns NULL without memory. */
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
	leave_noted(); /* whose return was missed */
	now = kind == EVENT_CLOSE && call->entered_sk == (u64)sk ? call->entered_ns
								 : bpf_ktime_get_ns();
	__builtin_memset(&call->event.progress, 0, sizeof(call->event.progress));
	__builtin_memset(&call->sk, 0, sizeof(*call) - __builtin_offsetof(struct call, sk));
	call->sk = (u64)sk;
	call->event.progress.time_ns = now;
	call->event.progress.kind = kind;
	call->event.progress.flags = TASK_CONTEXT;
	return call;
}

#endif
