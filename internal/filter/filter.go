// Package filter decides which events and endings match the filters of the
// command line.
//
// [Events] replaces the filter of the kernel side in a replay: it excludes the
// same events, so they explain nothing either. [Endings] excludes endings from
// what is shown, after they were classified.
package filter

import (
	"net/netip"
	"slices"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Events is the filter of bpf/filter.h. An empty list or a zero matches all.
// Any element of a list may match, and all fields must.
type Events struct {
	Ports       []uint16 // local or remote
	LocalPorts  []uint16
	RemotePorts []uint16
	IPv4, IPv6  bool
	Netns       []uint32
	// Cgroups are paths, Containers prefixes of container ids. One of either must
	// match the socket's cgroup or that of the task that made the call.
	Cgroups, Containers []string
}

// Match reports whether the kernel side would have reported the event. The end of
// a wait always matches: it has no addresses, and without its close it has no
// effect. A loss always matches: what was lost is unknown.
func (f *Events) Match(ev *events.Event) bool {
	if ev.Kind == events.KindWaitOver || ev.Kind == events.KindLoss {
		return true
	}
	is4 := ev.Remote.Addr().Unmap().Is4() // a local wildcard address does not say what is on the wire
	return (len(f.Netns) == 0 || slices.Contains(f.Netns, ev.Netns)) &&
		(f.IPv4 == f.IPv6 || is4 == f.IPv4) &&
		(contains(f.Ports, ev.Local) || contains(f.Ports, ev.Remote)) &&
		contains(f.LocalPorts, ev.Local) && contains(f.RemotePorts, ev.Remote) &&
		(len(f.Cgroups)+len(f.Containers) == 0 || f.covers(ev.SocketCgroupPath()) ||
			ev.Flags.Has(events.TaskContext) && f.covers(ev.Cgroup))
}

// covers reports whether the cgroup is one of the filter's, or below one.
func (f *Events) covers(cgroup string) bool {
	return slices.ContainsFunc(f.Cgroups, func(path string) bool { return events.Within(cgroup, path) }) ||
		slices.ContainsFunc(f.Containers, func(prefix string) bool { return events.InContainer(cgroup, prefix) })
}

func contains(ports []uint16, a netip.AddrPort) bool {
	return len(ports) == 0 || slices.Contains(ports, a.Port())
}

// Endings is the filter of the endings that are shown. As in [Events], an empty
// field matches all.
type Endings struct {
	Only, Not []Pattern
	Errors    bool     // only abnormal ones: see [events.Ending.IsAbnormal]
	PIDs      []uint32 // of the actor or the owner, in the initial pid namespace
	Comms     []string // names of the actor's or the owner's thread or process; * matches anything
	Nets      []netip.Prefix
	States    []events.State // before the ending
	MinUnread uint32         // bytes

	NotPorts     []uint16            // neither local nor remote
	UIDs         []uint32            // of the actor or the owner
	Connections  [][2]netip.AddrPort // both ends, in any order
	Since, Until time.Time           // zero: no limit
}

// Match reports whether e is shown.
func (f *Endings) Match(e *events.Ending) bool {
	return (len(f.Only) == 0 || MatchAny(f.Only, e)) && !MatchAny(f.Not, e) &&
		(!f.Errors || e.IsAbnormal()) &&
		(len(f.PIDs) == 0 || f.matchPID(e.Actor) || f.matchPID(e.Owner)) &&
		(len(f.Comms) == 0 || f.matchComm(e.Actor) || f.matchComm(e.Owner)) &&
		(len(f.Nets) == 0 || f.matchNet(e.Local) || f.matchNet(e.Remote)) &&
		(len(f.States) == 0 || slices.Contains(f.States, e.Before)) &&
		e.Evidence.UnreadBytes >= f.MinUnread &&
		!slices.Contains(f.NotPorts, e.Local.Port()) && !slices.Contains(f.NotPorts, e.Remote.Port()) &&
		(len(f.UIDs) == 0 || f.matchUID(e.Actor) || f.matchUID(e.Owner)) &&
		(len(f.Connections) == 0 || f.matchConnection(e)) &&
		!e.Time.Before(f.Since) && (f.Until.IsZero() || !e.Time.After(f.Until))
}

// Empty reports whether the filter matches all endings.
func (f *Endings) Empty() bool {
	return len(f.Only)+len(f.Not)+len(f.PIDs)+len(f.Comms)+len(f.Nets)+len(f.States) == 0 &&
		len(f.NotPorts)+len(f.UIDs)+len(f.Connections) == 0 &&
		!f.Errors && f.MinUnread == 0 && f.Since.IsZero() && f.Until.IsZero()
}

// WithoutParty returns the filter without what depends on the process, the addresses and the time of an ending.
func (f *Endings) WithoutParty() Endings {
	return Endings{Only: f.Only, Not: f.Not, Errors: f.Errors, States: f.States, MinUnread: f.MinUnread}
}

func (f *Endings) matchUID(t *events.Task) bool { return t != nil && slices.Contains(f.UIDs, t.UID) }

// matchConnection reports whether the ends are those of one of the connections.
func (f *Endings) matchConnection(e *events.Ending) bool {
	plain := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	}
	local, remote := plain(e.Local), plain(e.Remote)
	return slices.Contains(f.Connections, [2]netip.AddrPort{local, remote}) ||
		slices.Contains(f.Connections, [2]netip.AddrPort{remote, local})
}

func (f *Endings) matchPID(t *events.Task) bool { return t != nil && slices.Contains(f.PIDs, t.PID) }

// matchComm reports whether the task's thread or process has one of the names.
func (f *Endings) matchComm(t *events.Task) bool {
	return t != nil && slices.ContainsFunc(f.Comms, func(name string) bool {
		return matches(name, t.Comm) || t.Process != "" && matches(name, t.Process)
	})
}

// matchNet reports whether an address is in one of the networks.
func (f *Endings) matchNet(a netip.AddrPort) bool {
	ip := a.Addr().Unmap()
	return slices.ContainsFunc(f.Nets, func(net netip.Prefix) bool { return net.Contains(ip) })
}
