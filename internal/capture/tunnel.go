package capture

import "encoding/binary"

// Protocols that carry packets, as in IP.
const (
	protocolIPv4 = 4
	protocolUDP  = 17
	protocolIPv6 = 41
	protocolGRE  = 47
)

// UDP ports of tunnels.
const (
	portVXLAN      = 4789
	portVXLANLinux = 8472 // the default of Linux, which is older than the standard
	portGeneve     = 6081
)

// etherBridged is the protocol of an Ethernet frame in a tunnel.
const etherBridged = 0x6558

// maxTunnels is more tunnels within each other than any network has.
const maxTunnels = 4

// parsePayload reads what an IP packet carries: a segment, or a tunnel with a packet in it.
func (s *Segment) parsePayload(protocol byte, p []byte, length uint32) parsed {
	inner, header, ok := tunneled(protocol, p)
	if !ok || header > len(p) || s.tunnels == maxTunnels {
		return parsedOther
	}
	s.tunnels++
	s.Fragment = false // the packet in it says its own length
	return s.parseNetwork(inner, p[header:], length-min(length, uint32(header)))
}

// tunneled returns the protocol of the packet in a tunnel, and the length of the tunnel's header.
func tunneled(protocol byte, p []byte) (inner uint16, header int, ok bool) {
	switch protocol {
	case protocolIPv4:
		return etherIPv4, 0, true
	case protocolIPv6:
		return etherIPv6, 0, true
	case protocolGRE:
		return gre(p)
	case protocolUDP:
		return inUDP(p)
	}
	return 0, 0, false
}

// gre reads a header of RFC 2784 and 2890.
func gre(p []byte) (inner uint16, header int, ok bool) {
	const checksum, routing, key, sequence, version = 0x8000, 0x4000, 0x2000, 0x1000, 7
	if len(p) < 4 {
		return 0, 0, false
	}
	flags := binary.BigEndian.Uint16(p)
	if flags&(routing|version) != 0 {
		return 0, 0, false
	}
	header = 4
	for _, field := range []uint16{checksum, key, sequence} {
		if flags&field != 0 {
			header += 4
		}
	}
	return binary.BigEndian.Uint16(p[2:]), header, true
}

// inUDP reads a header of VXLAN (RFC 7348) or Geneve (RFC 8926), and that of UDP before it.
func inUDP(p []byte) (inner uint16, header int, ok bool) {
	const udp, hasNetwork = 8, 0x08
	if len(p) < udp+8 {
		return 0, 0, false
	}
	port, tunnel := binary.BigEndian.Uint16(p[2:]), p[udp:]
	switch {
	case port == portVXLAN || port == portVXLANLinux:
		return etherBridged, udp + 8, tunnel[0] == hasNetwork
	case port == portGeneve && tunnel[0]>>6 == 0:
		return binary.BigEndian.Uint16(tunnel[2:]), udp + 8 + int(tunnel[0]&0x3f)*4, true
	}
	return 0, 0, false
}
