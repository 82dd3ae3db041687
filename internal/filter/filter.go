// Package filter decides which endings somebody wants to see.
//
// [Facts] stands in for the kernel side where there is none, in a replay: it
// leaves out the same events, so that what follows knows as little of them.
// [Endings] looks at conclusions and leaves out what is shown, not what is known.
package filter

import (
	"net/netip"
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// Facts is the filter of bpf/filter.h. An empty list or a zero does not restrict;
// within a list any match suffices, between the fields all must hold.
type Facts struct {
	PIDs        []uint32
	Ports       []uint16 // local or remote
	LocalPorts  []uint16
	RemotePorts []uint16
	IPv4, IPv6  bool
	Netns       uint32
	// Cgroups by path and Containers by how their ids begin: either will do, of
	// the socket's cgroup or of that of the task whose call it is.
	Cgroups, Containers []string
}

// Wants tells whether the kernel side would have reported the event. The end of
// a wait names its socket only, and says nothing without the close before it.
func (f *Facts) Wants(ev *events.Event) bool {
	if ev.Kind == events.KindWaitOver {
		return true
	}
	is4 := ev.Remote.Addr().Unmap().Is4() // the other end's tells what is on the wire
	return (len(f.PIDs) == 0 || ev.Flags.Has(events.TaskContext) && slices.Contains(f.PIDs, ev.Task.PID)) &&
		(f.Netns == 0 || ev.Netns == f.Netns) &&
		(f.IPv4 == f.IPv6 || is4 == f.IPv4) &&
		(among(f.Ports, ev.Local) || among(f.Ports, ev.Remote)) &&
		among(f.LocalPorts, ev.Local) && among(f.RemotePorts, ev.Remote) &&
		(len(f.Cgroups)+len(f.Containers) == 0 || f.below(ev.SocketCgroupPath()) ||
			ev.Flags.Has(events.TaskContext) && f.below(ev.Cgroup))
}

// below: the cgroup is one of those, or below.
func (f *Facts) below(cgroup string) bool {
	return slices.ContainsFunc(f.Cgroups, func(path string) bool { return events.Within(cgroup, path) }) ||
		slices.ContainsFunc(f.Containers, func(prefix string) bool { return events.InContainer(cgroup, prefix) })
}

func among(ports []uint16, a netip.AddrPort) bool {
	return len(ports) == 0 || slices.Contains(ports, a.Port())
}

// Endings says which endings are shown. Like [Facts], an empty field does not
// restrict.
type Endings struct {
	Only, Not []Pattern
	Errors    bool     // [IsError] alone
	Comms     []string // of the process that is shown; * stands for anything
	Nets      []netip.Prefix
	States    []events.State // before the ending
	MinUnread uint32         // bytes
}

// Wants tells whether e is shown.
func (f *Endings) Wants(e *events.Ending) bool {
	return (len(f.Only) == 0 || Any(f.Only, e)) && !Any(f.Not, e) &&
		(!f.Errors || IsError(e)) &&
		(len(f.Comms) == 0 || f.calls(e.Actor) || f.calls(e.Owner)) &&
		(len(f.Nets) == 0 || f.in(e.Local) || f.in(e.Remote)) &&
		(len(f.States) == 0 || slices.Contains(f.States, e.Before)) &&
		e.Evidence.UnreadBytes >= f.MinUnread
}

// Empty tells whether all endings are shown.
func (f *Endings) Empty() bool {
	return len(f.Only)+len(f.Not)+len(f.Comms)+len(f.Nets)+len(f.States) == 0 && !f.Errors && f.MinUnread == 0
}

// calls: the process has one of the names.
func (f *Endings) calls(t *events.Task) bool {
	return t != nil && slices.ContainsFunc(f.Comms, func(name string) bool { return matches(name, t.Comm) })
}

func (f *Endings) in(a netip.AddrPort) bool {
	ip := a.Addr().Unmap()
	return slices.ContainsFunc(f.Nets, func(net netip.Prefix) bool { return net.Contains(ip) })
}
