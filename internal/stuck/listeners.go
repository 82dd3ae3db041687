package stuck

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sockets"
)

// listeners are the listening sockets of all network namespaces.
type listeners struct {
	byPort  map[localPort][]*sockets.Socket
	holders map[uint64][]sockets.Holder // of listeners, by their inodes

	keptByExec func(pid, tid uint32, fd int) bool
}

type localPort struct {
	netns uint32
	port  uint16
}

func newListeners(from *sockets.Snapshot) *listeners {
	l := &listeners{map[localPort][]*sockets.Socket{}, map[uint64][]sockets.Holder{}, from.KeptByExec}
	for _, s := range from.Sockets.All() {
		if s.State == events.Listen {
			key := localPort{s.Netns, s.Local.Port()}
			l.byPort[key] = append(l.byPort[key], &s)
			l.holders[s.Inode] = from.Holders.Of(s.Inode)
		}
	}
	return l
}

// at returns the listeners at the local port of a socket.
func (l *listeners) at(s *sockets.Socket) []*sockets.Socket {
	return l.byPort[localPort{s.Netns, s.Local.Port()}]
}

// service returns what the connection is for: "here:PORT" if there is a listener at its local port, otherwise the
// address of the peer.
func (l *listeners) service(s *sockets.Socket) string {
	if len(l.at(s)) > 0 {
		return "here:" + strconv.Itoa(int(s.Local.Port()))
	}
	return s.Remote.String()
}

// find returns the listener in whose accept queue a connection waits, or nil: one that is bound to its address,
// otherwise one that is bound to any address. Of several it returns one whose queue is not empty.
func (l *listeners) find(s *sockets.Socket) *Listener {
	var bound, unbound []*sockets.Socket
	for _, candidate := range l.at(s) {
		address := candidate.Local.Addr()
		switch {
		case candidate.ReceiveQueue == 0:
		case address == s.Local.Addr():
			bound = append(bound, candidate)
		case address.IsUnspecified() && acceptsFrom(address, s.Local.Addr()):
			unbound = append(unbound, candidate)
		}
	}
	if len(bound) == 0 {
		bound = unbound
	}
	if len(bound) == 0 {
		return nil
	}
	first := slices.MinFunc(bound, func(a, b *sockets.Socket) int { return int(a.Inode) - int(b.Inode) })
	return &Listener{first.Local, first.ReceiveQueue, first.SendQueue, l.holders[first.Inode], len(bound) - 1}
}

// acceptsFrom reports whether a listener at an unspecified address accepts connections to addr: one at :: accepts IPv4
// unless IPV6_V6ONLY is set, which the kernel does not show.
func acceptsFrom(unspecified, addr netip.Addr) bool { return unspecified.Is6() || addr.Is4() }
