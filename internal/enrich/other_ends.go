package enrich

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// OtherEnds finds the socket of the other end of a connection that a RST has ended. If it is still open, it did not
// send that RST: TCP closes a socket that sends one. It is not safe for concurrent use.
type OtherEnds struct {
	own   VisitOwn                  // nil: /proc shows that of closetrace as well
	dir   func(netns uint32) string // /proc/PID/net of a process in a network namespace; "" if there is none
	dirs  func() map[uint32]string  // the same of all namespaces that are known; nil: look in that of the RST only
	lost  func() bool               // whether something was lost since the last call, so that a RST may be hidden
	owner func(inode uint64) *events.Task
	now   func() time.Time
	next  time.Time
}

// NewOtherEnds returns an OtherEnds that asks own, or else reads tables in the directories that dir and dirs return for
// network namespaces, and names owners by o. lost reports whether something was lost since the last call.
func NewOtherEnds(
	own VisitOwn, dir func(netns uint32) string, dirs func() map[uint32]string, lost func() bool, o *Owners,
) *OtherEnds {
	return &OtherEnds{
		own: own, dir: dir, dirs: dirs, lost: lost, now: time.Now,
		owner: func(inode uint64) *events.Task { owner, _ := o.Of(inode, 0); return owner },
	}
}

// Resolve sets the other end of a connection that a RST has ended, if it is on this host and open.
func (o *OtherEnds) Resolve(ev *events.Event) {
	if !mayBeReset(ev) {
		return
	}
	now := o.now()
	if now.Before(o.next) {
		return
	}
	lost := o.lost()
	found, netns := o.find(ev)
	after := o.now()
	o.next = after.Add(max(lookEvery, scanShare*after.Sub(now)))
	if found == nil || lost {
		return
	}
	ev.OtherEnd = &events.OtherEnd{State: found.state, Netns: netns}
	if found.inode != 0 {
		ev.OtherEnd.Owner = o.owner(found.inode)
	}
}

// mayBeReset reports whether a RST may have ended a connection.
func mayBeReset(ev *events.Event) bool {
	const epipe, econnreset = 32, 104
	if ev.Kind != events.KindDone || ev.Before == events.SynSent || ev.Before == events.SynRecv {
		return false
	}
	return ev.SockErr == econnreset || ev.SockErr == epipe
}

// find returns the open socket of the other end, and its network namespace.
//
// In the namespace of the event, the addresses say which socket it is. In others, they may be those of another
// connection, whose two sockets have the same: then there is a second one with either pair of addresses.
func (o *OtherEnds) find(ev *events.Event) (found *socket, netns uint32) {
	left := maxSocketTable
	local, remote := unmapped(ev.Local), unmapped(ev.Remote)
	found, others, ok := o.findEnds(ev.Netns, o.dir, local, remote, &left)
	switch {
	case !ok || others:
		return nil, 0
	case found != nil || local.Addr().IsLoopback() || o.dirs == nil:
		return found, ev.Netns
	}
	dirs := o.dirs()
	dirOf := func(netns uint32) string { return dirs[netns] }
	for _, inode := range slices.Sorted(maps.Keys(dirs)) {
		if inode == ev.Netns {
			continue
		}
		one, others, ok := o.findEnds(inode, dirOf, local, remote, &left)
		if !ok || others || one != nil && found != nil {
			return nil, 0
		}
		if one != nil {
			found, netns = one, inode
		}
	}
	return found, netns
}

// findEnds returns the socket from remote to local in a network namespace, if TCP would have closed it after sending a
// RST, and whether there is a socket from local to remote. ok is false if not all sockets were seen.
func (o *OtherEnds) findEnds(
	netns uint32, dirOf func(uint32) string, local, remote netip.AddrPort, left *int,
) (other *socket, same, ok bool) {
	visit := func(s *socket) bool {
		switch {
		case s.local == local && s.remote == remote:
			same = true
		case s.local == remote && s.remote == local && s.isSilent():
			found := *s
			other = &found
		}
		return true
	}
	ports := [][2]uint16{{remote.Port(), local.Port()}, {local.Port(), remote.Port()}}
	ok = eachSocket(o.own, netns, dirOf, ports, left, visit)
	return other, same, ok
}

// isSilent reports whether a socket in this state has sent no RST: during the handshake, and in TIME_WAIT, the kernel
// keeps what it sends a RST for.
func (s *socket) isSilent() bool {
	return slices.Contains([]events.State{
		events.Established, events.FinWait1, events.FinWait2, events.CloseWait, events.Closing, events.LastAck,
	}, s.state)
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
