package sink

import (
	"net/netip"
	"strconv"
)

// portOnly is the width up to which a column shows an address by its port: as
// wide as ":65535".
const portOnly = 6

// address formats a in at most width cells; 0 is without limit. What is short
// of room is the middle of an IPv6 address: neither its ends nor the port are
// ever left out, nor is anything of an IPv4 address, which may take more than
// width. An address that speaks IPv4 is shown as IPv4, port 0 as *.
func address(a netip.AddrPort, width int) string {
	if !a.IsValid() {
		return absent
	}
	port := "*"
	if a.Port() != 0 {
		port = strconv.Itoa(int(a.Port()))
	}
	ip := a.Addr().Unmap()
	host := ip.String()
	switch {
	case width > 0 && width <= portOnly:
		return ":" + port
	case ip.Is4():
		return host + ":" + port
	}
	const brackets = 3 // []:
	if room := width - brackets - len(port); width > 0 && len(host) > room {
		host = middleCut(host, room)
	}
	return "[" + host + "]:" + port
}

// middleCut shortens s, which is ASCII, to width cells but leaves at least two
// at either end.
func middleCut(s string, width int) string {
	kept := max(width-1, 4)
	if kept >= len(s) {
		return s
	}
	tail := kept / 2
	return s[:kept-tail] + "…" + s[len(s)-tail:]
}
