package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/netns"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/runtimes"
)

// eventFilter is the filter of events: live the kernel side applies it, in a replay
// [filter.Events].
type eventFilter struct {
	probe.Filter
	// What the flags name; find looks it up.
	netns, cgroups, containers []string

	netnsPath string // of the first of netns; empty: not found
}

// netnsNames are the values of --netns of a live command.
const netnsNames = "names of ip-netns, paths, process ids, or inode:N"

func (f *eventFilter) flags(netnsIs string) flagGroup {
	g := newGroup("Trace only (all flags must match, and any value of a list)")
	g.flags.VarP(flagvalue.Ports(&f.Ports), "port", "P",
		"these ports, local or remote: numbers, ranges such as 8000-8100, or names such as https")
	g.flags.VarP(flagvalue.Ports(&f.LocalPorts), "lport", "L", "these local ports")
	g.flags.VarP(flagvalue.Ports(&f.RemotePorts), "rport", "D", "these remote ports")
	g.flags.BoolVarP(&f.IPv4, "ipv4", "4", false, "IPv4, including IPv4 on IPv6 sockets")
	g.flags.BoolVarP(&f.IPv6, "ipv6", "6", false, "IPv6; with -4: both")
	g.flags.Var(flagvalue.Words(&f.netns), "netns", "these network namespaces: "+netnsIs)
	g.flags.Var(flagvalue.Words(&f.cgroups), "cgroup",
		"sockets created in, or calls from, these cgroups (v2) or below: paths such as /system.slice/nginx.service")
	g.flags.Var(flagvalue.Words(&f.containers), "container",
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

// find looks up what the flags name.
func (f *eventFilter) find(in *targets) (err error) {
	if err := f.findNetns(in.spaces.FindInUse); err != nil {
		return err
	}
	for _, path := range f.cgroups {
		id, err := in.cgroup(path)
		if err != nil {
			return err
		}
		f.Cgroups = append(f.Cgroups, id)
	}
	for _, id := range f.containers {
		cgroups, err := in.container(id)
		if err != nil {
			return err
		}
		f.Cgroups = append(f.Cgroups, cgroups...)
	}
	return nil
}

// findNetns looks up the network namespaces.
func (f *eventFilter) findNetns(find func(string) (uint32, string, error)) error {
	for i, text := range f.netns {
		inode, path, err := find(text)
		if err != nil {
			return err
		}
		if i == 0 {
			f.netnsPath = path
		}
		if !slices.Contains(f.Netns, inode) {
			f.Netns = append(f.Netns, inode)
		}
	}
	return nil
}

// recorded returns the filter that a replay uses instead of the kernel side.
func (f *eventFilter) recorded() filter.Events {
	var cgroups []string
	for _, text := range f.cgroups {
		cgroups = append(cgroups, enrich.CgroupPath(text))
	}
	return filter.Events{
		Ports: f.Ports, LocalPorts: f.LocalPorts, RemotePorts: f.RemotePorts,
		IPv4: f.IPv4, IPv6: f.IPv6, Netns: f.Netns, Cgroups: cgroups, Containers: f.containers,
	}
}

// narrow reports whether the filter excludes endings within a network namespace.
func (f *eventFilter) narrow() bool {
	lists := len(f.Ports) + len(f.LocalPorts) + len(f.RemotePorts) + len(f.cgroups) + len(f.containers)
	return lists > 0 || f.IPv4 != f.IPv6
}

// targets finds what filters name: processes, network namespaces, cgroups, containers.
type targets struct {
	spaces   netns.Finder
	cgroups  func() (enrich.CgroupMount, error)
	runtimes []*runtimes.API // asked for names of containers; nil: none
}

// process returns an error unless pid is a running process. The id of a thread is an
// error, because no ending would match it.
func (t *targets) process(pid uint32) error {
	status, err := os.ReadFile(filepath.Join(t.spaces.Proc, strconv.Itoa(int(pid)), "status"))
	if err != nil {
		return hint.New(hint.Usage, fmt.Sprintf("no process has the id %d", pid), "ps -e lists the processes")
	}
	for line := range strings.Lines(string(status)) {
		leader, found := strings.CutPrefix(line, "Tgid:")
		leader = strings.TrimSpace(leader)
		if found && leader != strconv.Itoa(int(pid)) {
			return hint.New(hint.Usage,
				fmt.Sprintf("%d is a thread of process %s", pid, leader),
				"filter by the process: -p "+leader,
			)
		}
	}
	return nil
}

// cgroup returns the id of the cgroup (v2) that text names.
func (t *targets) cgroup(text string) (uint64, error) {
	mount, err := t.cgroups()
	if err != nil {
		return 0, cannotFilter(err)
	}
	id, err := mount.Lookup(text)
	if hint.Is(err, hint.Unsupported) {
		err = cannotFilter(err)
	}
	return id, err
}

// container returns the ids of the cgroups (v2) of the container that text names.
func (t *targets) container(text string) ([]uint64, error) {
	mount, err := t.cgroups()
	if err != nil {
		return nil, cannotFilter(err)
	}
	return runtimes.Find(mount, t.runtimes, text)
}

func cannotFilter(err error) error {
	return &hint.Error{Kind: hint.Unsupported, What: "cannot filter by cgroup", Err: err}
}
