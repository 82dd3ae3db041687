package sink

import (
	"net/netip"

	"github.com/closetrace/closetrace/internal/events"
)

// portOnly is the width of a port without an address, ":65535".
const portOnly = 6

// appendAddress appends a, or only its port. A v4-mapped address is shown as IPv4, port 0 as *.
func appendAddress(b []byte, a netip.AddrPort, onlyPort bool, known *events.Addresses) []byte {
	if !a.IsValid() {
		return append(b, absent...)
	}
	ip := a.Addr().Unmap()
	switch {
	case onlyPort:
	case ip.Is4():
		b = known.Append(b, ip)
	default:
		b = append(ip.AppendTo(append(b, '[')), ']')
	}
	b = append(b, ':')
	if a.Port() == 0 {
		return append(b, '*')
	}
	return events.AppendNumber(b, uint64(a.Port()))
}
