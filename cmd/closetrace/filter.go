package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/probe"
)

// facts are the filters that the kernel side decides, or in a replay
// [filter.Facts].
type facts struct {
	probe.Filter
	// What has to be looked up for that.
	netns               string
	cgroups, containers []string
}

func (f *facts) flags(netnsIs string) flagGroup {
	g := newGroup("What is traced (all must hold; within a list, any)")
	ports := func(list *[]uint16) numbers[uint16] { return numbers[uint16]{list, "port", 1<<16 - 1} }
	g.flags.VarP(numbers[uint32]{&f.PIDs, "process id", 1 << 22}, "pid", "p", "by a call of one of these processes; leaves out what segments and timers do")
	g.flags.VarP(ports(&f.Ports), "port", "P", "one of these ports, local or remote")
	g.flags.VarP(ports(&f.LocalPorts), "lport", "L", "one of these local ports")
	g.flags.VarP(ports(&f.RemotePorts), "rport", "D", "one of these remote ports")
	g.flags.BoolVarP(&f.IPv4, "ipv4", "4", false, "IPv4, also from an IPv6 socket")
	g.flags.BoolVarP(&f.IPv6, "ipv6", "6", false, "IPv6; with -4: both")
	g.flags.StringVar(&f.netns, "netns", "", "in this network namespace: "+netnsIs)
	g.flags.Var(words{&f.cgroups}, "cgroup", "of sockets that were made in, or calls from, one of these cgroups (v2) or below: paths, as /system.slice/nginx.service")
	g.flags.Var(words{&f.containers}, "container", "likewise, one of these containers: ids, or how they begin; live with --container-names also names")
	return g
}

// endingFlags are the filters of what is shown.
func endingFlags(f *filter.Endings) flagGroup {
	g := newGroup("What is shown (all must hold; within a list, any)")
	g.flags.Var(patterns{&f.Only}, "only", "these endings: a slug with all below it, a pattern as close.rst.*, or a word: rst, fin, errors")
	g.flags.Var(patterns{&f.Not}, "not", "not these")
	g.flags.BoolVar(&f.Errors, "errors", false, "what loses data or surprises somebody")
	g.flags.VarP(words{&f.Comms}, "comm", "c", "of processes with these names; * stands for anything")
	g.flags.Var(networks{&f.Nets}, "cidr", "with an address, local or remote, in these networks")
	g.flags.Var(states{&f.States}, "state", "in these TCP states before")
	g.flags.Uint32Var(&f.MinUnread, "min-unread", 0, "with at least `N` bytes unread")
	return g
}

// completeEndings tells the shell which words the flags of endings take: those
// of [endingFlags], and others of patterns.
func completeEndings(cmd *cobra.Command, patterns ...string) {
	for _, flag := range patterns {
		completeList(cmd, flag, patternWords())
	}
	completeList(cmd, "state", stateNames())
}

// completeList tells the shell which words a flag takes, of which there may be
// several, separated by commas.
func completeList(cmd *cobra.Command, flag string, words []string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, func(_ *cobra.Command, _ []string, typed string) (all []string, _ cobra.ShellCompDirective) {
		before := typed[:strings.LastIndexByte(typed, ',')+1]
		for _, word := range words {
			all = append(all, before+word)
		}
		return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
}

// find looks up what is named.
func (f *facts) find(in *finder) (err error) {
	if f.netns != "" {
		if f.Netns, err = in.netns(f.netns); err != nil {
			return err
		}
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

// cgroupPath is what a user means, as it is in /proc/PID/cgroup.
func cgroupPath(text string) string { return "/" + strings.Trim(text, "/") }

// recorded is what stands in for the kernel side.
func (f *facts) recorded() filter.Facts {
	var cgroups []string
	for _, text := range f.cgroups {
		cgroups = append(cgroups, cgroupPath(text))
	}
	return filter.Facts{
		PIDs: f.PIDs, Ports: f.Ports, LocalPorts: f.LocalPorts, RemotePorts: f.RemotePorts,
		IPv4: f.IPv4, IPv6: f.IPv6, Netns: f.Netns, Cgroups: cgroups, Containers: f.containers,
	}
}

// narrow: the filter leaves out endings within a network namespace.
func (f *facts) narrow() bool {
	return len(f.PIDs)+len(f.Ports)+len(f.LocalPorts)+len(f.RemotePorts)+len(f.cgroups)+len(f.containers) > 0 || f.IPv4 != f.IPv6
}

// patterns is a flag that takes patterns of endings.
type patterns struct{ list *[]filter.Pattern }

func (p patterns) String() string { return "" }

// Type is the word for the value in the help.
func (p patterns) Type() string { return "LIST" }

// Set adds the patterns of text, each of which has to name something.
func (p patterns) Set(text string) error {
	for word := range strings.SplitSeq(text, ",") {
		pattern := filter.Pattern(strings.TrimSpace(word))
		if !namesAny(pattern) {
			return &usageError{
				fmt.Sprintf("no ending is called %q", word),
				nearest(word, patternWords(), "closetrace lab --list shows endings; * stands for anything; rst, fin and errors are words"),
			}
		}
		*p.list = append(*p.list, pattern)
	}
	return nil
}

func namesAny(p filter.Pattern) bool {
	return slices.Contains(filter.Words(), string(p)) ||
		slices.ContainsFunc(classify.Paths(), func(i classify.PathInfo) bool { return p.Covers(i.Path) })
}

// patternWords are the patterns without a *: words, families, slugs.
func patternWords() []string {
	all := filter.Words()
	for _, p := range classify.Paths() {
		if family := p.Path.Family(); !slices.Contains(all, family) {
			all = append(all, family)
		}
		all = append(all, string(p.Path))
	}
	return all
}

// words is a flag that takes a list of words.
type words struct{ list *[]string }

func (w words) String() string { return "" }

// Type is the word for the value in the help.
func (w words) Type() string { return "LIST" }

// Set adds the words of text.
func (w words) Set(text string) error {
	for word := range strings.SplitSeq(text, ",") {
		if word == "" {
			return &usageError{"an empty name", "separate several by commas, as nginx,php-fpm*"}
		}
		*w.list = append(*w.list, word)
	}
	return nil
}

// networks is a flag that takes a list of networks or single addresses.
type networks struct{ list *[]netip.Prefix }

func (n networks) String() string { return "" }

// Type is the word for the value in the help.
func (n networks) Type() string { return "LIST" }

// Set adds the networks of text. What speaks IPv4 is compared as IPv4.
func (n networks) Set(text string) error {
	for word := range strings.SplitSeq(text, ",") {
		net, err := netip.ParsePrefix(word)
		if ip, ipErr := netip.ParseAddr(word); ipErr == nil {
			ip = ip.Unmap().WithZone("")
			net, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		if err != nil {
			return &usageError{fmt.Sprintf("%q is not a network", word), "as 10.0.0.0/8, 2001:db8::/32, or a single address"}
		}
		*n.list = append(*n.list, net)
	}
	return nil
}

// states is a flag that takes a list of TCP states.
type states struct{ list *[]events.State }

func (s states) String() string { return "" }

// Type is the word for the value in the help.
func (s states) Type() string { return "LIST" }

// ofSS are the names of ss(8) that are not the kernel's.
var ofSS = map[string]string{"ESTAB": "ESTABLISHED", "FIN_WAIT_1": "FIN_WAIT1", "FIN_WAIT_2": "FIN_WAIT2", "LISTENING": "LISTEN", "UNCONN": "CLOSE"}

// Set adds the states of text, however they are written.
func (s states) Set(text string) error {
	for word := range strings.SplitSeq(text, ",") {
		name := strings.ToUpper(strings.NewReplacer("-", "_", "TCP_", "").Replace(word))
		name = cmp.Or(ofSS[name], name)
		if !slices.Contains(stateNames(), name) {
			return &usageError{
				fmt.Sprintf("%q is not a TCP state", word),
				nearest(name, stateNames(), "one of "+strings.Join(stateNames(), ", ")),
			}
		}
		var state events.State
		if err := state.UnmarshalText([]byte(name)); err != nil {
			return err
		}
		*s.list = append(*s.list, state)
	}
	return nil
}

func stateNames() []string {
	var names []string
	for s := events.Established; s <= events.BoundInactive; s++ {
		names = append(names, s.String())
	}
	return names
}
