package capture

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// TCP flags of RFC 9293, section 3.1.
const (
	FIN = 0x01
	SYN = 0x02
	RST = 0x04
	ACK = 0x10
)

// Segment is a TCP segment as it was captured.
type Segment struct {
	Packet      int64 // its number in the file, from 1
	Time        time.Time
	HasTime     bool
	Commentable bool // the packet can have a comment in the file
	Src, Dst    netip.AddrPort
	Seq, Ack    uint32
	Flags       uint8
	Payload     uint32 // bytes, on the wire
	Fragment    bool   // the first fragment of a packet, so that Payload is not that of the segment
	tunnels     uint8  // that it was in
}

// FINSeq returns the sequence number of the FIN. It is the same in a retransmission with other data before it.
func (s *Segment) FINSeq() uint32 {
	seq := s.Seq + s.Payload
	if s.Flags&SYN != 0 {
		seq++
	}
	return seq
}

// Link types, LINKTYPE_.
const (
	linkNull     = 0
	linkEthernet = 1
	linkRaw12    = 12 // as some systems write LINKTYPE_RAW
	linkRaw14    = 14
	linkRaw      = 101
	linkLoop     = 108
	linkSLL      = 113
	linkIPv4     = 228
	linkIPv6     = 229
	linkSLL2     = 276
)

// Protocols, as in Ethernet.
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	// VLAN tags: of IEEE 802.1Q, of 802.1ad, and an older one for the outer of two.
	etherVLAN     = 0x8100
	etherProvider = 0x88a8
	etherQinQ     = 0x9100
)

// parsed is what a packet was.
type parsed int

const (
	parsedOther   parsed = iota // no TCP segment, or not its first fragment
	parsedTCP                   //
	parsedCut                   // TCP, captured up to before the flags
	parsedUnknown               // of an unknown link type
)

// parse reads a packet of a link type. wire is its length on the wire.
func (s *Segment) parse(kind int, p []byte, wire uint32) parsed {
	protocol, header, known := network(kind, p)
	if !known {
		return parsedUnknown
	}
	if header > len(p) {
		return parsedOther
	}
	return s.parseNetwork(protocol, p[header:], wire-min(wire, uint32(header)))
}

// parseNetwork reads a packet of a protocol, as Ethernet numbers them.
func (s *Segment) parseNetwork(protocol uint16, p []byte, wire uint32) parsed {
	switch protocol {
	case etherIPv4:
		return s.parseIPv4(p, wire)
	case etherIPv6:
		return s.parseIPv6(p, wire)
	case etherBridged:
		if inner, header := tagged(p, 12); inner != etherBridged && header <= len(p) {
			return s.parseNetwork(inner, p[header:], wire-min(wire, uint32(header)))
		}
	}
	return parsedOther
}

// network returns the protocol in a packet, and where it begins.
func network(kind int, p []byte) (protocol uint16, header int, known bool) {
	switch kind {
	case linkEthernet:
		protocol, header = tagged(p, 12)
	case linkSLL:
		protocol, header = tagged(p, 14)
	case linkSLL2:
		if len(p) >= 20 {
			protocol, header = binary.BigEndian.Uint16(p), 20
			if isVLAN(protocol) {
				protocol, header = tagged(p, 22) // the tag follows the header
			}
		}
	case linkNull, linkLoop:
		if len(p) >= 4 {
			protocol, header = ofFamily(binary.BigEndian.Uint32(p)), 4
		}
	case linkRaw, linkRaw12, linkRaw14, linkIPv4, linkIPv6:
		if len(p) > 0 {
			protocol = map[byte]uint16{4: etherIPv4, 6: etherIPv6}[p[0]>>4]
		}
	default:
		return 0, 0, false
	}
	return protocol, header, true
}

// maxTags is more VLAN tags than any network has.
const maxTags = 8

// tagged returns the protocol at an offset, behind VLAN tags, and where its header begins.
func tagged(p []byte, at int) (protocol uint16, header int) {
	for range maxTags {
		if at+2 > len(p) {
			return 0, 0
		}
		protocol = binary.BigEndian.Uint16(p[at:])
		if !isVLAN(protocol) {
			return protocol, at + 2
		}
		at += 4
	}
	return 0, 0
}

func isVLAN(protocol uint16) bool {
	return protocol == etherVLAN || protocol == etherProvider || protocol == etherQinQ
}

// ofFamily returns the protocol of an address family of LINKTYPE_NULL, which is in the byte order of the host that
// captured, and has other numbers on each system.
func ofFamily(family uint32) uint16 {
	if family >= 1<<24 {
		family >>= 24
	}
	switch family {
	case 2:
		return etherIPv4
	case 10, 24, 28, 30:
		return etherIPv6
	}
	return 0
}

const protocolTCP = 6

func (s *Segment) parseIPv4(p []byte, wire uint32) parsed {
	if len(p) < 20 || p[0]>>4 != 4 {
		return parsedOther
	}
	header, total := int(p[0]&15)*4, uint32(binary.BigEndian.Uint16(p[2:]))
	if total == 0 { // more than 64 KiB, which the interface splits after the capture
		total = wire
	}
	const offset, more = 0x1fff, 0x2000
	fragment := binary.BigEndian.Uint16(p[6:])
	if header < 20 || total < uint32(header) || fragment&offset != 0 {
		return parsedOther
	}
	s.Fragment = fragment&more != 0
	src, dst := netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
	protocol, p := p[9], p[min(header, len(p)):]
	if protocol != protocolTCP {
		return s.parsePayload(protocol, p, total-uint32(header))
	}
	return s.parseTCP(p, total-uint32(header), src, dst)
}

// maxExtensions is more extension headers of IPv6 than any host accepts.
const maxExtensions = 16

func (s *Segment) parseIPv6(p []byte, wire uint32) parsed {
	if len(p) < 40 || p[0]>>4 != 6 {
		return parsedOther
	}
	src, dst := netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:]))
	length, next := uint32(binary.BigEndian.Uint16(p[4:])), p[6]
	if length == 0 { // a jumbogram
		length = wire - min(wire, 40)
	}
	p = p[40:]
	for range maxExtensions {
		if next == protocolTCP {
			return s.parseTCP(p, length, src, dst)
		}
		size := s.extension(next, p)
		if size == 0 {
			return s.parsePayload(next, p, length)
		}
		if size > len(p) || uint32(size) > length {
			return parsedOther
		}
		next, p, length = p[0], p[size:], length-uint32(size)
	}
	return parsedOther
}

// extension returns the size of an extension header, 0 if there is no way behind it.
func (s *Segment) extension(kind byte, p []byte) int {
	const hopByHop, routing, fragment, authentication, destination, mobility, hip, shim6 = 0, 43, 44, 51, 60, 135, 139, 140
	if len(p) < 8 {
		return 0
	}
	switch kind {
	case hopByHop, routing, destination, mobility, hip, shim6:
		return (int(p[1]) + 1) * 8
	case authentication:
		return (int(p[1]) + 2) * 4
	case fragment:
		const offset, more = 0xfff8, 1
		where := binary.BigEndian.Uint16(p[2:])
		if where&offset != 0 {
			return 0
		}
		s.Fragment = where&more != 0
		return 8
	}
	return 0
}

// parseTCP reads what is there of a segment whose length is that of its packet's headers.
func (s *Segment) parseTCP(p []byte, length uint32, src, dst netip.Addr) parsed {
	const upToFlags = 14
	if length < 20 {
		return parsedOther
	}
	if len(p) < upToFlags {
		return parsedCut
	}
	header := uint32(p[12]>>4) * 4
	if header < 20 || length < header {
		return parsedOther
	}
	s.Src = netip.AddrPortFrom(src.Unmap(), binary.BigEndian.Uint16(p))
	s.Dst = netip.AddrPortFrom(dst.Unmap(), binary.BigEndian.Uint16(p[2:]))
	s.Seq, s.Ack = binary.BigEndian.Uint32(p[4:]), binary.BigEndian.Uint32(p[8:])
	s.Flags, s.Payload = p[13], length-header
	return parsedTCP
}
