package classify

import "github.com/closetrace/closetrace/internal/events"

const originICMPv6 = 3 // SO_EE_ORIGIN_ICMP6 of include/uapi/linux/errqueue.h

// Types of ICMP messages: include/uapi/linux/icmp.h, icmpv6.h.
const (
	icmpUnreachable    = 3
	icmpTimeExceeded   = 11
	icmpParameter      = 12
	icmpv6Unreachable  = 1
	icmpv6TooBig       = 2
	icmpv6TimeExceeded = 3
	icmpv6Parameter    = 4
)

// icmpCodes are the codes of an unreachable destination, RFC 792 and RFC 1812.
var icmpCodes = [...]string{
	0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable",
	4: "fragmentation needed", 5: "source route failed", 6: "network unknown", 7: "host unknown",
	8: "source host isolated", 9: "network administratively prohibited", 10: "host administratively prohibited",
	11: "network unreachable for type of service", 12: "host unreachable for type of service",
	13: "administratively prohibited", 14: "host precedence violation", 15: "precedence cutoff",
}

// icmpv6Codes are the codes of an unreachable destination, RFC 4443.
var icmpv6Codes = [...]string{
	0: "no route to host", 1: "administratively prohibited", 2: "beyond scope of source address",
	3: "address unreachable", 4: "port unreachable", 5: "source address failed policy", 6: "reject route",
}

// refusal appends an ICMP error and the error of the socket that it leads to:
// "ICMP port unreachable: ECONNREFUSED".
func (p phrase) refusal(e *events.ICMPError) phrase {
	return p.icmp(e).text(": ").text(errno(int32(e.Errno)))
}

// icmp appends an ICMP error in words.
func (p phrase) icmp(e *events.ICMPError) phrase {
	name, what, codes, unreachable := "ICMP ", "", icmpCodes[:], uint8(icmpUnreachable)
	if e.Origin == originICMPv6 {
		name, codes, unreachable = "ICMPv6 ", icmpv6Codes[:], icmpv6Unreachable
	}
	if e.Type == unreachable && int(e.Code) < len(codes) {
		what = codes[e.Code]
	} else {
		what = icmpType(e)
	}
	if what != "" {
		return p.text(name).text(what)
	}
	return p.text(name).text("type ").number(uint64(e.Type)).text(", code ").number(uint64(e.Code))
}

// icmpType returns the type of an ICMP error that is not an unreachable destination.
func icmpType(e *events.ICMPError) string {
	types := map[uint8]string{icmpTimeExceeded: "time exceeded", icmpParameter: "parameter problem"}
	if e.Origin == originICMPv6 {
		types = map[uint8]string{
			icmpv6TooBig: "packet too big", icmpv6TimeExceeded: "time exceeded", icmpv6Parameter: "parameter problem",
		}
	}
	return types[e.Type]
}
