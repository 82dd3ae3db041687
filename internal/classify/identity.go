package classify

import (
	"net/netip"

	"github.com/closetrace/closetrace/internal/events"
)

// identity is which connection an end belongs to, by its first sequence numbers:
// addresses are used again, translated on the way, and are the same in several
// network namespaces. Each number is the initial one or the next: the end that
// connected counts its SYN. 0 is unknown.
type identity struct{ sent, received uint32 }

func identityOf(ev *events.Event) identity { return identity{ev.FirstSent, ev.FirstReceived} }

// connectionID returns a number that both ends of a connection have, on any host and through any translation of
// addresses, and hardly any other connection: of the two first sequence numbers. The end that connected counts its SYN.
// 0 is unknown: before the handshake, without a socket, and in recordings that do not say which end connected.
func connectionID(ev *events.Event) uint64 {
	sent, received := ev.FirstSent, ev.FirstReceived
	switch {
	case sent == 0 || received == 0:
		return 0
	case ev.Flags.Has(events.Connected):
		sent++
	case !ev.Flags.Has(events.Accepted):
		return 0
	}
	return mix(uint64(min(sent, received))<<32 | uint64(max(sent, received)))
}

// mix spreads a number over all bits, one to one (the finalizer of splitmix64): ids of connections that began at about
// the same time are then as different as others.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// mayBe reports whether two identities of one end do not contradict each other.
func (a identity) mayBe(b identity) bool {
	return alike(a.sent, b.sent) && alike(a.received, b.received)
}

// mayBeOneConnection reports whether two events of one end do not show two connections. tcp_disconnect clears the
// remote port and sets other sequence numbers, so only the later event may lack that port.
func mayBeOneConnection(a, b *events.Event) bool {
	switch {
	case a.Remote.Port() == b.Remote.Port():
		return a.Remote.Port() == 0 || identityOf(a).mayBe(identityOf(b))
	case a.Remote.Port() == 0:
		return a.MonoNS >= b.MonoNS
	}
	return b.Remote.Port() == 0 && b.MonoNS >= a.MonoNS
}

// alike reports whether two first sequence numbers may be those of one direction.
func alike(a, b uint32) bool { return a == 0 || b == 0 || beside(a, b) }

// beside reports whether two sequence numbers differ by one at most.
func beside(a, b uint32) bool { return a-b+1 <= 2 }

// sentEnd returns the sequence number after all that this side has to send, with a
// FIN; 0 if unknown.
func sentEnd(ev *events.Event) uint32 {
	if ev.SndNxt == 0 {
		return 0
	}
	return ev.SndNxt + ev.UnsentBytes + 2
}

// receivedEnd returns the next sequence number to receive (rcv_nxt).
func receivedEnd(ev *events.Event) uint32 {
	end := ev.FirstReceived + uint32(ev.BytesReceived)
	if ev.Flags.Has(events.PeerFIN) {
		end++
	}
	return end
}

// beforeFIN returns the sequence number of the peer's FIN, if that is the last that was received, otherwise the next
// one, as given. A RST may have it: its segment crossed the FIN, and the kernel accepts that (tcp_reset_check).
func beforeFIN(ev *events.Event, end uint32) uint32 {
	if ev.Flags.Has(events.PeerFIN) {
		return end - 1
	}
	return end
}

const (
	// maxAcknowledged is how far a late segment's ACK may be behind: the largest window.
	maxAcknowledged = 1 << 30
	// maxApart is how far the sequence number of a segment that comes after a close may be from the next one at that
	// close: 128 MB are more than what is on its way. A wider bound lets other connections fit by chance.
	maxApart = 1 << 27
)

// mayAcknowledge reports whether a segment without a socket may belong to the
// connection of a past: it acknowledges nothing that this side never sent, neither in
// that connection nor before it. The initial sequence number of a later connection of
// the same addresses is higher (secure_tcp_seq adds a clock), but may have wrapped. So
// its own number must be near what this side had received when it closed, if known.
func (p *past) mayAcknowledge(ev *events.Event) bool {
	if ev.SegmentAck == 0 || p.sentEnd == 0 || ev.FirstSent != 0 {
		return true
	}
	sent := uint32(maxAcknowledged)
	if p.identity.sent != 0 {
		sent = min(sent, p.sentEnd-p.identity.sent)
	}
	if p.receivedEnd != 0 && ev.SegmentSeq != 0 && ev.SegmentSeq-p.receivedEnd+maxApart > 2*maxApart {
		return false
	}
	return p.sentEnd-ev.SegmentAck <= sent
}

// closedAt returns the next sequence number to receive when this side closed the
// connection, after which little more may arrive; 0: it is not known, or not closed.
func closedAt(ev *events.Event) uint32 {
	if ev.Kind != events.KindClose || ev.FirstReceived == 0 {
		return 0
	}
	return receivedEnd(ev)
}

// isOf reports whether an event is of the connection of a past that explains it. Where
// it has no socket, the number that its segment acknowledges shows that.
func (f *fact) isOf(p *past) bool {
	return p != nil && (f.Kind != events.KindReply || f.FirstSent != 0 || f.SegmentAck != 0 && p.sentEnd != 0)
}

// anywhere is the place of an end in recordings without sequence numbers: loopback
// addresses differ per network namespace, others are considered unique, so that the
// ends of a veth pair find each other.
func anywhere(local, remote netip.AddrPort, netns uint32) connection {
	if !local.Addr().Unmap().IsLoopback() {
		netns = 0
	}
	return connectionOf(local, remote, netns)
}
