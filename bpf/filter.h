/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Filters, checked before anything else is read. */
#ifndef FILTER_H
#define FILTER_H

/* listed reports whether a filter has this value. Most have one value, which needs no map. */
static __always_inline bool listed(enum filter_field field, u32 value)
{
	struct filter_key key = { .field = field, .value = value };

	if (filter_values_of[field] == 1)
		return value == filter_value_of[field];
	return bpf_map_lookup_elem(&filter_values, &key);
}

static __always_inline bool filters(enum filter_field field)
{
	return filter_values_of[field];
}

/* ports_listed reports whether a connection between these ports (host order) passes. */
static __always_inline bool ports_listed(u16 local, u16 remote)
{
	if (filters(FILTER_PORT) && !listed(FILTER_PORT, local) && !listed(FILTER_PORT, remote))
		return false;
	if (filters(FILTER_LOCAL_PORT) && !listed(FILTER_LOCAL_PORT, local))
		return false;
	return !filters(FILTER_REMOTE_PORT) || listed(FILTER_REMOTE_PORT, remote);
}

/* wire_family returns the family on the wire: AF_INET also for a v4-mapped IPv6 socket. */
static __always_inline u16 wire_family(const struct sock *sk)
{
	u16 family = READ(sk, __sk_common.skc_family);
	struct in6_addr addr;

	if (family != AF_INET6)
		return family;
	BPF_CORE_READ_INTO(&addr, sk, __sk_common.skc_v6_daddr);
	if (*(u64 *)addr.in6_u.u6_addr8 == 0 &&
	    *(u32 *)&addr.in6_u.u6_addr8[8] == bpf_htonl(0xffff))
		return AF_INET;
	return family;
}

/* Number of ancestors of a cgroup that are checked. */
#define CGROUP_DEPTH 32

/* in_wanted_cgroup reports whether the filter has the cgroup or one of its ancestors. */
static __noinline bool in_wanted_cgroup(const struct cgroup *cgroup)
{
	for (int i = 0; i < CGROUP_DEPTH && cgroup; i++) {
		u64 id = BPF_CORE_READ(cgroup, kn, id);

		if (bpf_map_lookup_elem(&filter_cgroups, &id))
			return true;
		cgroup = BPF_CORE_READ(cgroup, self.parent, cgroup);
	}
	return false;
}

/* cgroup_wanted reports whether the filter by cgroup passes. Without a task, only the cgroup of
 * the socket counts. */
static __always_inline bool cgroup_wanted(const struct sock *sk, bool by_task)
{
	const struct task_struct *task;

	if (in_wanted_cgroup(socket_cgroup(sk)))
		return true;
	if (!by_task)
		return false;
	task = (const void *)bpf_get_current_task();
	return in_wanted_cgroup(BPF_CORE_READ(task, cgroups, dfl_cgrp));
}

/*
 * wanted reports whether an event about this socket passes the filters. by_task: the current
 * task is the actor.
 */
static __always_inline bool wanted(const struct sock *sk, bool by_task)
{
	if (!has_filter)
		return true;
	if (filters(FILTER_NETNS) &&
	    !listed(FILTER_NETNS, READ(sk, __sk_common.skc_net.net, ns.inum)))
		return false;
	if (filter_family && filter_family != wire_family(sk))
		return false;
	if (filter_cgroup && !cgroup_wanted(sk, by_task))
		return false;
	if (!filters(FILTER_PORT) && !filters(FILTER_LOCAL_PORT) && !filters(FILTER_REMOTE_PORT))
		return true;
	return ports_listed(bpf_ntohs(READ((const struct inet_sock *)sk, inet_sport)),
			    bpf_ntohs(READ(sk, __sk_common.skc_dport)));
}

#endif
