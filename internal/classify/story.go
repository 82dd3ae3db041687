package classify

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// What is remembered of endings, by connection and by socket, is bounded: about
// 3 MB each.
const (
	maxPast = 16384
	// maxAnswers is for resets in reply: a scan makes any number.
	maxAnswers = 1024
)

// socket identifies a socket. The kernel soon gives the address of one that is
// gone to another, also while the last ending of the first is still held; the
// local port and the namespace stay the same all its life.
type socket struct {
	addr  uint64
	netns uint32
	port  uint16
}

func (s socket) hash(by seed) uint64 { return by.mix(s.addr, uint64(s.netns)<<16|uint64(s.port)) }

func socketOf(ev *events.Event) socket { return socket{ev.Sock, ev.Netns, ev.Local.Port()} }

// sameSocket: two events are about one socket.
func sameSocket(a, b *events.Event) bool { return a.Sock != 0 && socketOf(a) == socketOf(b) }

// past is what is remembered of an ending, to explain a later one.
type past struct {
	path          events.Path
	at            uint64 // event clock
	actor         *events.Task
	local, remote netip.AddrPort
	before        events.State
	fin, rst      bool
	doubt         string
}

func (p *past) ago(ev *events.Event) time.Duration {
	if ev.MonoNS < p.at {
		return 0
	}
	return time.Duration(ev.MonoNS - p.at)
}

// connection identifies one end of a connection. Loopback addresses mean
// something else in each network namespace; others are taken to be unique on
// this host, so that the two ends of a veth pair find each other. An IPv4 address
// and its v4-mapped form are the same.
type connection struct {
	local, remote         [16]byte
	localPort, remotePort uint16
	netns                 uint32
}

func (c connection) hash(by seed) uint64 {
	of := binary.NativeEndian
	h := by.mix(of.Uint64(c.local[:]), of.Uint64(c.local[8:]))
	h = by.mix(h^of.Uint64(c.remote[:]), of.Uint64(c.remote[8:]))
	return by.mix(h, uint64(c.netns)<<32|uint64(c.localPort)<<16|uint64(c.remotePort))
}

func connectionOf(local, remote netip.AddrPort, netns uint32) connection {
	c := connection{
		local: local.Addr().As16(), localPort: local.Port(),
		remote: remote.Addr().As16(), remotePort: remote.Port(),
	}
	if local.Addr().Unmap().IsLoopback() {
		c.netns = netns
	}
	return c
}

// sameEnd: two events are about the same end of a connection.
func sameEnd(a, b *events.Event) bool {
	return a.Local.Port() == b.Local.Port() && a.Remote.Port() == b.Remote.Port() &&
		connectionOf(a.Local, a.Remote, a.Netns) == connectionOf(b.Local, b.Remote, b.Netns)
}

// story is what happened before.
type story struct {
	connections memory[connection]
	sockets     memory[socket]     // sockets that ended and are still open
	answers     memory[connection] // resets in reply
	shared      memory[socket]     // sockets of which a descriptor was closed and others were not
}

func newStory() story {
	return story{
		connections: newMemory(maxPast, connection.hash), sockets: newMemory(maxPast, socket.hash),
		answers: newMemory(maxAnswers, connection.hash), shared: newMemory(maxPast, socket.hash),
	}
}

// tell remembers an ending.
func (s *story) tell(f *fact, e *events.Ending) {
	if f.Kind == events.KindEPIPE {
		return // it ends nothing
	}
	p := past{
		path: e.Path, at: f.MonoNS, actor: e.Actor, local: e.Local, remote: e.Remote,
		before: f.Before, fin: e.FIN, rst: e.RST, doubt: e.Doubt,
	}
	if f.Kind == events.KindShared {
		*s.shared.put(socketOf(f.Event)) = p
		return
	}
	switch end := connectionOf(e.Local, e.Remote, e.Netns); f.Kind {
	case events.KindReply:
		*s.answers.put(end) = p // and what they answer stays to explain the next
	case events.KindPeerFIN: // not this side's doing
	default:
		*s.connections.put(end) = p
	}
	switch {
	case f.Kind == events.KindClose:
		s.sockets.forget(socketOf(f.Event))
		s.shared.forget(socketOf(f.Event))
	case !f.sent(events.Orphan) && f.Sock != 0 && f.Kind != events.KindPeerFIN:
		*s.sockets.put(socketOf(f.Event)) = p
	}
}

// closed is what ended the socket that is closed now.
func (s *story) closed(ev *events.Event) *past { return s.sockets.get(socketOf(ev)) }

// letGo is the last close(2) of another descriptor of the socket that is closed
// now.
func (s *story) letGo(ev *events.Event) *past { return s.shared.get(socketOf(ev)) }

// earlier is what this side did last.
func (s *story) earlier(ev *events.Event) *past {
	return s.connections.get(connectionOf(ev.Local, ev.Remote, ev.Netns))
}

// ofThis is what this side did last with a connection whose socket is still
// there. The same addresses may have been those of a connection before: as long
// as the socket has an owner, nothing but a shutdown can have been done to it.
func (s *story) ofThis(f *fact) *past {
	p := s.earlier(f.Event)
	if p == nil || f.sent(events.Orphan) {
		return p
	}
	if p.path.Family() != "shutdown" || p.fin != f.afterShutdown() {
		return nil
	}
	return p
}

// joinTime is how far apart the two ends of one RST may be.
const joinTime = time.Second

// peerReset is the RST that the other end sent, if it is on this host.
func (s *story) peerReset(ev *events.Event) *past {
	end := connectionOf(ev.Remote, ev.Local, ev.Netns)
	var nearest *past
	for _, p := range []*past{s.connections.get(end), s.answers.get(end)} {
		if p == nil || !p.rst || apart(p, ev) > joinTime {
			continue
		}
		if nearest == nil || apart(p, ev) < apart(nearest, ev) {
			nearest = p
		}
	}
	return nearest
}

func apart(p *past, ev *events.Event) time.Duration {
	return time.Duration(max(p.at, ev.MonoNS) - min(p.at, ev.MonoNS))
}
