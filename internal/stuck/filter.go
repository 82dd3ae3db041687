package stuck

import (
	"net/netip"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/sockets"
)

// Filter selects sockets by the rules of the filters of events and endings. The zero Filter selects all.
type Filter struct {
	Events  filter.Events  // ports and address families, and the cgroups and containers of the holders
	Endings filter.Endings // networks, states, and processes that hold the socket or its listener
	// CgroupOf returns the path of the cgroup that a process is in, "" if unknown.
	CgroupOf func(pid uint32) string
}

// matchSocket reports whether the addresses and the state match.
func (f *Filter) matchSocket(s *sockets.Socket) bool {
	remote := s.Remote
	if !remote.IsValid() { // of a listener
		remote = netip.AddrPortFrom(s.Local.Addr(), 0)
	}
	shown, traced := f.Endings, f.Events
	shown.PIDs, shown.Comms, shown.UIDs = nil, nil, nil
	traced.Cgroups, traced.Containers = nil, nil
	return traced.Match(&events.Event{Local: s.Local, Remote: remote}) &&
		shown.Match(&events.Ending{Local: s.Local, Remote: remote, Before: s.State})
}

// Empty reports whether the filter selects all sockets.
func (f *Filter) Empty() bool {
	ports := len(f.Events.Ports) + len(f.Events.LocalPorts) + len(f.Events.RemotePorts)
	return ports == 0 && f.Events.IPv4 == f.Events.IPv6 && f.Endings.Empty() && !f.isByProcess()
}

func (f *Filter) isByProcess() bool {
	return len(f.Endings.PIDs)+len(f.Endings.Comms)+len(f.Endings.UIDs) > 0 || f.isByCgroup()
}

func (f *Filter) isByCgroup() bool { return len(f.Events.Cgroups)+len(f.Events.Containers) > 0 }

// matchHolder reports whether one of the processes that hold the socket, or its listener, matches.
func (f *Filter) matchHolder(found *Finding) bool {
	processes := filter.Endings{PIDs: f.Endings.PIDs, Comms: f.Endings.Comms, UIDs: f.Endings.UIDs}
	for _, h := range found.Processes() {
		if processes.Match(&events.Ending{Owner: &events.Task{PID: h.PID, UID: h.UID, Comm: h.Comm}}) && f.inCgroup(h.PID) {
			return true
		}
	}
	return false
}

// inCgroup reports whether a process is in one of the cgroups or containers.
func (f *Filter) inCgroup(pid uint32) bool {
	if !f.isByCgroup() {
		return true
	}
	cgroups := filter.Events{Cgroups: f.Events.Cgroups, Containers: f.Events.Containers}
	return cgroups.Match(&events.Event{Cgroup: f.CgroupOf(pid)})
}

// Processes returns the processes that hold the socket or, if it was never accepted, its listener.
func (f *Finding) Processes() []sockets.Holder {
	if f.Listener != nil {
		return f.Listener.Holders
	}
	return f.Holders
}
