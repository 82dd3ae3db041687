package sink

import (
	"net/netip"
	"strconv"
)

// portOnly is the width up to which a column shows an address by its port: as
// wide as ":65535".
const portOnly = 6

// address formats a; where a column is no wider than portOnly cells, its port.
// An address is never cut, and may take more than width; 0 is without limit. One
// that speaks IPv4 is shown as IPv4, port 0 as *.
func address(a netip.AddrPort, width int) string {
	if !a.IsValid() {
		return absent
	}
	port := "*"
	if a.Port() != 0 {
		port = strconv.Itoa(int(a.Port()))
	}
	ip := a.Addr().Unmap()
	switch {
	case width > 0 && width <= portOnly:
		return ":" + port
	case ip.Is4():
		return ip.String() + ":" + port
	}
	return "[" + ip.String() + "]:" + port
}
