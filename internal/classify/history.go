package classify

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

const (
	// maxConnections and maxSockets bound what is remembered: about 3 MB each.
	maxConnections = 16384
	maxSockets     = 16384
	// maxAnswers bounds the resets in reply by themselves: a scan causes any number,
	// and must not displace the connections.
	maxAnswers = 1024
	// maxResets bounds the other resets, which are rarer than closes.
	maxResets = 4096
	// maxFINs bounds the FINs received that were reported.
	maxFINs = 4096
	// peerWindow is how far apart in time the two ends of one RST may be.
	peerWindow = time.Second
)

// socket identifies a socket. The kernel reuses the address of a freed socket
// soon, even while the last event of the old one is pending. The local port and
// the namespace of a socket do not change.
type socket struct {
	addr  uint64
	netns uint32
	port  uint16
}

func socketOf(ev *events.Event) socket { return socket{ev.Sock, ev.Netns, ev.Local.Port()} }

// sameSocket reports whether two events are about one socket.
func sameSocket(a, b *events.Event) bool { return a.Sock != 0 && socketOf(a) == socketOf(b) }

// connection is the place of one end of a connection. Its addresses may be those
// of another connection before or after it: see identity. An IPv4 address and its
// v4-mapped form are the same.
type connection struct {
	local, remote         [16]byte
	localPort, remotePort uint16
	netns                 uint32
}

func connectionOf(local, remote netip.AddrPort, netns uint32) connection {
	return connection{
		local: local.Addr().As16(), localPort: local.Port(),
		remote: remote.Addr().As16(), remotePort: remote.Port(), netns: netns,
	}
}

// sameEnd reports whether two events are about the same end of a connection.
func sameEnd(a, b *events.Event) bool {
	return a.Local.Port() == b.Local.Port() && a.Remote.Port() == b.Remote.Port() &&
		connectionOf(a.Local, a.Remote, a.Netns) == connectionOf(b.Local, b.Remote, b.Netns)
}

// past is an ending that explains a later one.
type past struct {
	path          events.Path
	identity      identity
	connectionID  uint64
	sentEnd       uint32 // the sequence number after all that this side had to send, with its FIN; 0: unknown
	receivedEnd   uint32 // the next sequence number to receive when this side closed; 0: unknown
	segmentSeq    uint32 // of the segment that a reply answered
	monoNS        uint64
	actor         *events.Task
	local, remote netip.AddrPort
	before        events.State
	fin, rst      bool
	doubt         string
	hook          string // of netfilter, where its rule is; netns is that of the rule
	netns         uint32
	unread        uint32 // bytes
	noted         bool   // the kernel side did not report it
	overNS        uint64 // of a socket: when a close at its address was noted after it; 0: not
}

// ago returns how long before an event the ending was.
func (p *past) ago(ev *events.Event) time.Duration {
	return time.Duration(max(ev.MonoNS, p.monoNS) - p.monoNS)
}

// apart returns how much time is between the ending and an event.
func (p *past) apart(ev *events.Event) time.Duration {
	return time.Duration(max(ev.MonoNS, p.monoNS) - min(ev.MonoNS, p.monoNS))
}

// peerFIN is a FIN of the peer that was reported.
type peerFIN struct {
	socket socket
	monoNS uint64
}

// history is what is remembered of earlier endings, by connection and by socket.
type history struct {
	connections recent[connection, past] // the last that this side did
	resets      recent[uint32, past]     // resets but those in reply, by the first sequence number received
	answers     recent[uint32, past]     // resets in reply or by netfilter, by their sequence number on the wire
	byAddress   recent[connection, past] // all resets of recordings without sequence numbers
	sockets     recent[socket, past]     // the end of sockets that are still open
	shared      recent[socket, past]     // the last close(2) that left a socket open
	fins        recent[uint64, peerFIN]  // by the address of the socket
	notedSince  uint64                   // closes before it may have been noted and never read
	// lateNS is how long after a segment could not find a socket any more the end of that socket may be dated. Tracepoint
	// mode sees the state change to CLOSE, and tcp_set_state unhashes the socket before that.
	lateNS uint64
}

func newHistory(h events.Header) history {
	var late time.Duration
	if h.Attach == events.AttachTracepoint {
		late = recordWindow
	}
	return history{
		lateNS: uint64(late),

		connections: newRecent[connection, past](maxConnections),
		resets:      newRecent[uint32, past](maxResets),
		answers:     newRecent[uint32, past](maxAnswers),
		byAddress:   newRecent[connection, past](maxResets),
		sockets:     newRecent[socket, past](maxSockets),
		shared:      newRecent[socket, past](maxSockets),
		fins:        newRecent[uint64, peerFIN](maxFINs),
	}
}

// add remembers an ending.
func (h *history) add(f *fact, e *events.Ending) {
	switch f.Kind {
	case events.KindEPIPE: // ends nothing
	case events.KindPeerFIN: // not done by this side
		if f.After == events.CloseWait {
			*h.fins.put(f.Sock) = peerFIN{socketOf(f.Event), f.MonoNS}
		}
	case events.KindShared:
		setPast(h.shared.put(socketOf(f.Event)), f, e)
	case events.KindReject: // done by no socket
		h.addReset(f, e)
	case events.KindReply: // the ending that it follows stays, to explain the next reply
		h.addReset(f, e)
		h.addSocket(f, e)
	default:
		isNoop := isWithoutEffect(e.Path)
		if !followsEnd(f) && (!isNoop || h.earlier(f.Event) == nil) {
			h.addConnection(f, e)
		}
		h.addReset(f, e)
		if !isNoop || h.endOf(f.Event) == nil {
			h.addSocket(f, e)
		}
	}
}

// followsEnd reports whether an event closes a socket whose end is known: that stays, to explain what still arrives.
func followsEnd(f *fact) bool {
	return f.Kind == events.KindClose && f.Before == events.Close && f.past != nil
}

// isWithoutEffect reports whether a path is that of a shutdown(2) that ends nothing. What did before stays, to explain
// what follows: many programs call shutdown(2) before each close(2).
func isWithoutEffect(p events.Path) bool {
	return p == events.ShutdownNotConnected || p == events.ShutdownNoop || p == events.ShutdownRead
}

// addConnection remembers what this side did last with a connection. A close that
// was pending may be concluded after a later connection of the same addresses.
func (h *history) addConnection(f *fact, e *events.Ending) {
	p, old := h.connections.renew(connectionOf(e.Local, e.Remote, e.Netns))
	setLater(p, old, f, e)
}

// setLater sets p to an ending, or to what was remembered before, if that happened later.
func setLater(p, old *past, f *fact, e *events.Ending) {
	if old != nil && old.monoNS > f.MonoNS {
		*p = *old
		return
	}
	setPast(p, f, e)
}

// addReset remembers a RST for the end that receives it.
func (h *history) addReset(f *fact, e *events.Ending) {
	switch {
	case !e.RST:
	case f.SegmentSeq != 0 || f.SegmentAck != 0:
		h.addAnswer(cmp.Or(f.SegmentAck, f.SegmentSeq), f, e)
	case f.FirstReceived != 0:
		setPast(h.resets.put(f.FirstReceived), f, e)
	default:
		setPast(h.byAddress.put(anywhere(e.Local, e.Remote, e.Netns)), f, e)
	}
}

// addAnswer remembers a RST in reply by its sequence number. Of two with one number the first resets the other end.
func (h *history) addAnswer(number uint32, f *fact, e *events.Ending) {
	if first := h.answers.get(number); first != nil && first.local == e.Local && first.remote == e.Remote &&
		first.netns == f.Netns && f.MonoNS-first.monoNS < uint64(peerWindow) {
		return
	}
	setPast(h.answers.put(number), f, e)
}

// addSocket remembers how a socket ended until its last descriptor is closed.
func (h *history) addSocket(f *fact, e *events.Ending) {
	switch {
	case f.Kind == events.KindClose:
		h.sockets.forget(socketOf(f.Event))
		h.shared.forget(socketOf(f.Event))
	case !f.sent(events.Orphan) && f.Sock != 0:
		p, old := h.sockets.renew(socketOf(f.Event))
		setLater(p, old, f, e) // a call may begin before its socket ends, and return after it
	}
}

func setPast(p *past, f *fact, e *events.Ending) {
	p.path, p.monoNS, p.actor, p.local, p.remote = e.Path, f.MonoNS, e.Actor, e.Local, e.Remote
	p.before, p.fin, p.rst, p.doubt, p.noted, p.overNS = f.Before, e.FIN, e.RST, e.Doubt, false, 0
	p.identity, p.sentEnd, p.segmentSeq = identityOf(f.Event), sentEnd(f.Event), f.SegmentSeq
	p.connectionID, p.receivedEnd = e.ConnectionID, closedAt(f.Event)
	p.hook, p.netns, p.unread = f.NetfilterHook, f.Netns, e.Evidence.UnreadBytes
	if e.Doubt == doubtSender {
		p.doubt = "" // of what ended the socket there is none
	}
}

// explain sets the earlier endings that explain an event.
func (h *history) explain(f *fact) {
	h.nameCloser(f)
	switch {
	case f.Before == events.Close && (f.Kind == events.KindClose || f.Kind == events.KindEPIPE):
		f.past = h.endOf(f.Event)
	case f.Kind == events.KindClose:
		f.past = h.current(h.shared.get(socketOf(f.Event)), f.Event)
	case f.Kind == events.KindReply && !beginsConnection(f):
		f.past = h.earlier(f.Event)
	case f.Kind == events.KindReset && f.Listener == 0:
		f.past = h.earlierOfSocket(f)
	case f.Kind == events.KindDone:
		f.past = h.earlierOfSocket(f)
		if f.wasReset() {
			f.peer = h.peerReset(f.Event)
		}
	}
}

// nameCloser sets the owner of an end of a socket on which a close waited under SO_LINGER, if the record of that close
// came first.
func (h *history) nameCloser(f *fact) {
	if f.Kind == events.KindClose || f.Owner != nil || !lingers(f) {
		return
	}
	if p := h.earlier(f.Event); p != nil && p.path.Family() == "close" && p.actor != nil {
		f.Owner, f.OwnerBy = p.actor, events.OwnerByCall
	}
}

// endOf returns how the socket of an event ended, if it did.
func (h *history) endOf(ev *events.Event) *past {
	return h.current(h.sockets.get(socketOf(ev)), ev)
}

// earlier returns what this side did last with the connection of an event: with
// that one, not with another of the same addresses.
func (h *history) earlier(ev *events.Event) *past {
	p := h.connections.get(connectionOf(ev.Local, ev.Remote, ev.Netns))
	switch {
	case p == nil, !p.explains(ev), p.noted && p.monoNS > ev.MonoNS:
		return nil
	case ev.Kind == events.KindReply && p.monoNS > ev.MonoNS+h.lateNS:
		return nil
	}
	return p
}

// explains reports whether what this side did with a connection of the same addresses may explain an event.
func (p *past) explains(ev *events.Event) bool {
	return p.identity.mayBe(identityOf(ev)) && p.mayAcknowledge(ev)
}

// earlierOfSocket returns what this side did last with the connection of a
// socket. Where a recording does not say which connection that was: while a socket
// has an owner, this side can only have shut it down.
func (h *history) earlierOfSocket(f *fact) *past {
	p := h.earlier(f.Event)
	if p == nil || f.sent(events.Orphan) {
		return p
	}
	if p.path.Family() != "shutdown" || p.fin != f.afterShutdown() {
		return nil
	}
	return p
}

// peerReset returns the RST of the other end that reset a socket, if that end is
// on this host. Sequence numbers find it, whatever addresses it has there. Of two,
// it is the one that is nearer in time.
func (h *history) peerReset(ev *events.Event) (nearest *past) {
	id := identityOf(ev)
	if id == (identity{}) {
		return h.peerByAddress(ev)
	}
	for _, key := range [...]uint32{id.sent, id.sent + 1} {
		if p := h.resets.get(key); p != nil && beside(p.identity.sent, id.received) && mayBeReset(ev, false) {
			nearest = p.nearer(nearest, ev)
		}
	}
	answered := receivedEnd(ev)
	if ev.Before == events.SynSent {
		answered = id.sent // a RST in reply to a SYN has no number; the SYN's stands for it
	}
	for _, number := range [...]uint32{answered, beforeFIN(ev, answered)} {
		if p := h.answers.get(number); p != nil && int32(ev.SndNxt-p.segmentSeq) >= 0 && mayBeReset(ev, true) {
			nearest = p.nearer(nearest, ev)
		}
	}
	return nearest
}

// mayBeReset reports whether a RST that was sent in reply, or not, may be the one that reset a socket. Both may be on
// their way at once. A RST in reply to a segment with an ACK has none itself (tcp_v4_send_reset), any other RST has one
// (tcp_send_active_reset). Of segments, only a SYN has no ACK.
func mayBeReset(ev *events.Event, inReply bool) bool {
	return ev.SegmentFlags&thRST == 0 || ev.Before == events.SynSent || inReply == (ev.SegmentFlags&thACK == 0)
}

// peerByAddress is peerReset for recordings without sequence numbers.
func (h *history) peerByAddress(ev *events.Event) *past {
	p := h.byAddress.get(anywhere(ev.Remote, ev.Local, ev.Netns))
	if p == nil {
		return nil
	}
	return p.nearer(nil, ev)
}

// nearer returns the one of two pasts that is nearer in time to an event, if it is
// near enough. The other may be nil.
func (p *past) nearer(other *past, ev *events.Event) *past {
	switch {
	case p.apart(ev) > peerWindow:
		return other
	case other != nil && other.apart(ev) <= p.apart(ev):
		return other
	}
	return p
}

// takeFIN forgets the reported FIN of the socket of an event, and returns when it
// was received. A FIN of another socket at the same address is forgotten too:
// that socket was closed unseen.
func (h *history) takeFIN(ev *events.Event) (monoNS uint64, ok bool) {
	fin := h.fins.get(ev.Sock)
	if fin == nil {
		return 0, false
	}
	h.fins.forget(ev.Sock)
	return fin.monoNS, ev.Sock != 0 && fin.socket == socketOf(ev)
}

// beginsConnection reports whether a RST in reply answers a SYN.
func beginsConnection(f *fact) bool { return f.SegmentFlags&(thSYN|thACK) == thSYN }
