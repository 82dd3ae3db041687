/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The types of the kernel, with only the fields that are read. CO-RE finds their offsets in the
 * BTF of the running kernel, so neither order nor completeness matters, and no generated
 * vmlinux.h is needed.
 */
#ifndef KERNEL_H
#define KERNEL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;
typedef _Bool bool;

/* The names that the headers of libbpf use. */
typedef u8 __u8;
typedef u16 __u16;
typedef s32 __s32;
typedef u32 __u32;
typedef s64 __s64;
typedef u64 __u64;
typedef u16 __be16;
typedef u32 __be32;
typedef u32 __wsum;

#define false 0
#define true 1
#define NULL ((void *)0)

/* include/uapi/linux/bpf.h */
#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_STACK_TRACE 7
#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_SK_STORAGE 24
#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_MAP_TYPE_TASK_STORAGE 29
#define BPF_ANY 0
#define BPF_NOEXIST 1
#define BPF_F_NO_PREALLOC 1
#define BPF_F_REUSE_STACKID (1 << 10)
#define BPF_F_MMAPABLE (1 << 10)
#define BPF_F_USER_STACK (1 << 8)
#define BPF_LOCAL_STORAGE_GET_F_CREATE 1
#define BPF_RB_NO_WAKEUP 1
#define BPF_RB_FORCE_WAKEUP 2
#define BPF_RB_AVAIL_DATA 0

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6

/* include/net/tcp_states.h, part of the user-space ABI */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_FIN_WAIT1,
	TCP_FIN_WAIT2,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_LISTEN,
	TCP_CLOSING,
	TCP_NEW_SYN_RECV,
};

#define RCV_SHUTDOWN 1 /* include/net/sock.h */
#define SEND_SHUTDOWN 2
#define SOCK_STREAM 1
#define PF_EXITING 0x00000004 /* include/linux/sched.h */
#define PF_KTHREAD 0x00200000
#define S_IFMT 0170000 /* include/uapi/linux/stat.h */
#define S_IFSOCK 0140000

/*
 * Registers at a kprobe. The layout is that of the program's context and is not relocated.
 * ENTRY_CALLER is the frame that a stack taken at the entry of a function lacks: arm64 continues
 * with the frame of x29, which is still that of the caller's caller.
 * arch/x86/include/asm/ptrace.h, arch/arm64/include/uapi/asm/ptrace.h
 */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#define ARG1(ctx) ((ctx)->di)
#define ARG2(ctx) ((ctx)->si)
#define ARG3(ctx) ((ctx)->dx)
#define ARG4(ctx) ((ctx)->cx)
#define RESULT(ctx) ((ctx)->ax)
#define ENTRY_CALLER(ctx) 0
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	u64 regs[31];
	u64 sp, pc, pstate;
};
#define ARG1(ctx) ((ctx)->regs[0])
#define ARG2(ctx) ((ctx)->regs[1])
#define ARG3(ctx) ((ctx)->regs[2])
#define ARG4(ctx) ((ctx)->regs[3])
#define RESULT(ctx) ((ctx)->regs[0])
#define ENTRY_CALLER(ctx) ((ctx)->regs[30])
#else
#error "no register layout for this architecture"
#endif

#define __kernel_type __attribute__((preserve_access_index))

/* Holes between the fields that are declared here do not exist in the kernel. */
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpadded"

typedef struct {
	int counter;
} __kernel_type atomic_t;

typedef struct {
	s64 counter;
} __kernel_type atomic64_t;

typedef struct {
	atomic_t refs;
} __kernel_type refcount_t;

struct in6_addr {
	union {
		u8 u6_addr8[16];
	} in6_u;
} __kernel_type;

struct ns_common {
	u32 inum;
} __kernel_type;

struct netns_ipv4 {
	u8 sysctl_tcp_migrate_req;
} __kernel_type;

struct net {
	struct ns_common ns;
	struct netns_ipv4 ipv4;
} __kernel_type;

typedef struct {
	struct net *net;
} __kernel_type possible_net_t;

struct sock_common {
	u64 skc_addrpair; /* daddr and rcv_saddr: the next two */
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	u32 skc_portpair; /* the next two */
	__be16 skc_dport;
	u16 skc_num;
	u16 skc_family;
	volatile u8 skc_state;
	unsigned char skc_reuseport : 1;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
} __kernel_type;

typedef struct {
	int owned;
} __kernel_type socket_lock_t;

struct inode {
	u16 i_mode;
	unsigned long i_ino;
} __kernel_type;

struct file {
	struct inode *f_inode;
	void *private_data;
} __kernel_type;

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
} __kernel_type;

struct files_struct {
	struct fdtable *fdt;
} __kernel_type;

struct scm_fp_list {
	short count;
	struct file *fp[1];
} __kernel_type;

struct scm_cookie {
	struct scm_fp_list *fp;
} __kernel_type;

typedef struct {
	u32 val;
} __kernel_type kuid_t;

struct socket {
	struct file *file;
	struct sock *sk;
} __kernel_type;

struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
} __kernel_type;

struct sk_buff;

struct sk_buff_head {
	struct sk_buff *next;
	struct sk_buff *prev;
} __kernel_type;

struct bpf_prog;

struct sock_reuseport {
	struct bpf_prog *prog;
} __kernel_type;

struct sock {
	struct sock_common __sk_common;
	socket_lock_t sk_lock;
	struct socket *sk_socket;
	int sk_err;
	struct sk_buff_head sk_error_queue;
	struct sk_buff_head sk_receive_queue;
	u32 sk_ack_backlog;
	u32 sk_max_ack_backlog;
	u16 sk_protocol;
	u16 sk_type;
	u8 sk_shutdown;
	u8 sk_kern_sock : 1;
	kuid_t sk_uid;
	unsigned long sk_lingertime;
	struct sock_reuseport *sk_reuseport_cb;
} __kernel_type;

/* include/net/sock.h; numbers resolved by name */
enum sock_flags {
	SOCK_DEAD,
	SOCK_DONE,
	SOCK_URGINLINE,
	SOCK_KEEPOPEN,
	SOCK_LINGER,
};

struct ipv6_pinfo {
	int mcast_oif;
} __kernel_type;

struct inet_sock {
	__be16 inet_sport;
	int mc_index;
	struct ipv6_pinfo *pinet6;
} __kernel_type;

struct request_sock_queue {
	atomic_t qlen;
} __kernel_type;

struct tcp_ulp_ops;

struct inet_connection_sock {
	struct request_sock_queue icsk_accept_queue;
	const struct tcp_ulp_ops *icsk_ulp_ops;
	void *icsk_ulp_data;
	struct {
		u32 lrcvtime;
	} icsk_ack;
	u32 icsk_user_timeout;
	u32 icsk_rto;
	u8 icsk_backoff;
	u8 icsk_probes_out;
	u8 icsk_retransmits;
} __kernel_type;

struct request_sock;

struct tcp_sock {
	u32 rcv_nxt;
	u32 copied_seq;
	u32 write_seq;
	u32 snd_nxt;
	u32 snd_una;
	u32 snd_wnd;
	u32 rcv_tstamp;
	u32 lsndtime;
	u32 retrans_stamp;
	u32 srtt_us;
	u32 total_retrans;
	struct request_sock *fastopen_rsk;
	u32 mss_cache;
	u32 packets_out;
	u32 sacked_out;
	u32 lost_out;
	u32 retrans_out;
	u32 snd_cwnd;
	u64 bytes_sent;
	u64 bytes_received;
	u64 bytes_acked;
	int linger2;
	u8 repair : 1;
} __kernel_type;

struct timer_list {
	unsigned long expires;
} __kernel_type;

struct inet_timewait_sock {
	volatile u8 tw_substate;
	struct timer_list tw_timer;
} __kernel_type;

struct mm_struct {
	unsigned long start_stack;
} __kernel_type;

struct kernfs_node {
	u64 id;
} __kernel_type;

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
} __kernel_type;

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
} __kernel_type;

struct css_set {
	struct cgroup *dfl_cgrp; /* in the hierarchy of version 2 */
} __kernel_type;

struct upid {
	int nr;
} __kernel_type;

struct pid {
	unsigned int level;
	struct upid numbers[1];
} __kernel_type;

struct signal_struct {
	struct mm_struct *oom_mm;
} __kernel_type;

struct cred {
	kuid_t uid;
} __kernel_type;

struct task_struct {
	int pid, tgid;
	const struct cred *cred;
	char comm[16];
	struct css_set *cgroups;
	void *stack;
	struct mm_struct *mm;
	unsigned int flags;
	int exit_code;
	struct files_struct *files;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	struct task_struct *real_parent;
	struct pid *thread_pid;
	const struct cred *real_cred;
	u64 start_boottime;
} __kernel_type;

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} __kernel_type;

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} __kernel_type;

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	struct file *file;
} __kernel_type;

struct net_device {
	possible_net_t nd_net;
} __kernel_type;

struct sk_buff {
	struct net_device *dev;
	unsigned char *head;
	u16 transport_header;
	u16 network_header;
	u32 len;
	char cb[48];
} __kernel_type;

struct sock_extended_err {
	u32 ee_errno;
	u8 ee_origin;
	u8 ee_type;
	u8 ee_code;
} __kernel_type;

/* In the control block of a buffer in sk_error_queue. */
struct sock_exterr_skb {
	struct sock_extended_err ee;
} __kernel_type;

#pragma clang diagnostic pop

#endif
