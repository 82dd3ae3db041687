package main

import (
	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
)

// eventFilter is the filter of events as it was typed. Live the kernel side applies it, in a replay [filter.Events].
type eventFilter struct {
	filter.Events          // its Netns is empty
	netns         []string // what --netns names
}

func (f *eventFilter) flags(netnsIs string) flagGroup {
	g := newGroup("Trace only (all flags must match, and any value of a list)")
	g.flags.VarP(flagvalue.Ports(&f.Ports), "port", "P",
		"these ports, local or remote: numbers, ranges such as 8000-8100, or names such as https")
	g.flags.VarP(flagvalue.Ports(&f.LocalPorts), "lport", "L", "these local ports")
	g.flags.VarP(flagvalue.Ports(&f.RemotePorts), "rport", "D", "these remote ports")
	g.flags.BoolVarP(&f.IPv4, "ipv4", "4", false, "IPv4, including IPv4 on IPv6 sockets")
	g.flags.BoolVarP(&f.IPv6, "ipv6", "6", false, "IPv6; with -4: both")
	g.flags.Var(flagvalue.Words(&f.netns), "netns", "these network namespaces: "+netnsIs)
	g.flags.Var(flagvalue.Words(&f.Cgroups), "cgroup",
		"sockets created in, or calls from, these cgroups (v2) or below: paths such as /system.slice/nginx.service")
	g.flags.Var(flagvalue.Words(&f.Containers), "container",
		"same, for containers: id or id prefix; with --container-names also a name (not in replay)")
	return g
}

// endingFlags returns the display filters.
func endingFlags(f *filter.Endings) flagGroup {
	g := newGroup("Show only (all flags must match, and any value of a list)")
	g.flags.Var(flagvalue.Patterns(&f.Only), "only",
		"only these: a path (close.rst, with everything below it), a pattern (close.rst.*), or rst, fin, errors")
	g.flags.Var(flagvalue.Patterns(&f.Not), "not", "hide these")
	g.flags.BoolVar(&f.Errors, "errors", false, "only endings that lose data or that an application sees as an error")
	g.flags.VarP(flagvalue.PIDs(&f.PIDs), "pid", "p",
		"connections of these processes: what they did, and what happened to their sockets")
	g.flags.VarP(flagvalue.Words(&f.Comms), "comm", "c",
		"same, for processes or threads with these names; * matches anything")
	g.flags.Var(flagvalue.Networks(&f.Nets), "cidr", "addresses in these networks, local or remote")
	g.flags.Var(flagvalue.States(&f.States), "state", "only connections that were in one of these states")
	g.flags.Var(flagvalue.Ports(&f.NotPorts), "exclude-port", "hide these ports, local or remote")
	g.flags.Var(flagvalue.Users(&f.UIDs), "uid", "connections of processes of these users: ids or names")
	g.flags.Var(flagvalue.Connection{List: &f.Connections}, "connection",
		"only the connection between these ends: ADDRESS:PORT,ADDRESS:PORT, in any order")
	g.flags.Uint32Var(&f.MinUnread, "min-unread", 0, "at least `N` bytes unread")
	return g
}

// completeEndings registers shell completion for the flags of [endingFlags], and
// for other flags that take patterns.
func completeEndings(cmd *cobra.Command, patterns ...string) {
	for _, flag := range patterns {
		completeList(cmd, flag, flagvalue.PatternWords())
	}
	completeList(cmd, "state", flagvalue.StateNames())
}

// contradicts returns an error if no ending can match both filters.
func (f *eventFilter) contradicts(shown *filter.Endings) error {
	recorded := f.recorded()
	if why := filter.Contradiction(&recorded, shown); why != "" {
		return hint.New(hint.Usage, "nothing can match: "+why, "leave out one of the flags")
	}
	return nil
}

// recorded returns the filter that a replay uses instead of the kernel side.
func (f *eventFilter) recorded() filter.Events {
	all := f.Events
	all.Cgroups = nil
	for _, text := range f.Cgroups {
		all.Cgroups = append(all.Cgroups, events.CgroupPath(text))
	}
	return all
}

// narrow reports whether the filter excludes endings within a network namespace.
func (f *eventFilter) narrow() bool {
	lists := len(f.Ports) + len(f.LocalPorts) + len(f.RemotePorts) + len(f.Cgroups) + len(f.Containers)
	return lists > 0 || f.IPv4 != f.IPv6
}
