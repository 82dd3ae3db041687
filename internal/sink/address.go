package sink

import (
	"net/netip"

	"github.com/closetrace/closetrace/internal/events"
)

// portOnly is the width up to which a column shows an address by its port: as
// wide as ":65535".
const portOnly = 6

// appendAddress formats a; where a column is no wider than portOnly cells, its
// port. An address is never cut, and may take more than width; 0 is without
// limit. One that speaks IPv4 is shown as IPv4, port 0 as *.
func appendAddress(b []byte, a netip.AddrPort, width int, known *events.Addresses) []byte {
	if !a.IsValid() {
		return append(b, absent...)
	}
	ip := a.Addr().Unmap()
	switch {
	case width > 0 && width <= portOnly:
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
