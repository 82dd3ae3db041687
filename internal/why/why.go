// Package why finds the endings of the connection that a user asks about, and says why it ended.
//
// A [Collector] takes the endings of a trace or of recordings and keeps those that match a [Query]. [Collector.Print]
// prints the answer: a ladder of both ends, what each application gets, the cause and what to do about it.
package why

import (
	"net/netip"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/logline"
)

// Query says which connection.
type Query struct {
	Line logline.Line
	PID  uint32 // of a process that caused an ending or holds the socket; 0: any
}

// Empty reports whether the query names no connection.
func (q *Query) Empty() bool { return len(q.Line.Endpoints) == 0 && q.PID == 0 }

// complete returns how many endpoints of the query have an address and a port.
func (q *Query) complete() int {
	n := 0
	for _, e := range q.Line.Endpoints {
		if e.Complete() {
			n++
		}
	}
	return n
}

// least returns how well a connection must match. Who names two ends, and nothing else, means no other connection.
func (q *Query) least() matches {
	if q.Line.Exact && q.complete() >= 2 {
		return byBothEnds
	}
	return byAddress
}

// matches is how much of a connection a query names. The more the better.
type matches int

// How much an endpoint says of an end, and two of both.
const (
	byAddress  matches = 1
	byPort     matches = 2
	byEndpoint matches = 4
	byBothEnds         = 2 * byEndpoint
)

// of returns how well the query names a connection, 0 if it does not.
func (q *Query) of(p pair) matches {
	best := matches(0)
	for i, a := range q.Line.Endpoints {
		best = max(best, match(a, p.low), match(a, p.high))
		for _, b := range q.Line.Endpoints[i+1:] {
			best = max(best, both(match(a, p.low), match(b, p.high)), both(match(a, p.high), match(b, p.low)))
		}
	}
	return best
}

func both(a, b matches) matches {
	if a == 0 || b == 0 {
		return 0
	}
	return a + b
}

func match(e logline.Endpoint, end netip.AddrPort) matches {
	address, port := e.Addr.IsValid() && e.Addr == end.Addr(), e.Port != 0 && e.Port == end.Port()
	switch {
	case address && port:
		return byEndpoint
	case port && !e.Addr.IsValid():
		return byPort
	case address && e.Port == 0:
		return byAddress
	}
	return 0
}

// pair is the addresses of a connection, whichever end reports them.
type pair struct {
	low, high netip.AddrPort
	netns     uint32       // of loopback addresses, which each network namespace has
	host      *events.Host // of these, where there are several
}

// pairOf returns the addresses of an ending's connection, each as its own end has it.
func pairOf(e *events.Ending) pair { return pairWith(e, e.PeerAddr()) }

func pairWith(e *events.Ending, remote netip.AddrPort) pair {
	a, b := plain(e.Local), plain(remote)
	if b.Compare(a) < 0 {
		a, b = b, a
	}
	p := pair{low: a, high: b}
	if a.Addr().IsLoopback() {
		p.netns, p.host = e.Netns, e.Host
	}
	return p
}

// plain returns an address without the zone and the form of an IPv6 socket.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// isConnected reports whether an ending is of a connection, and not of a listener or of a socket without a peer.
func isConnected(e *events.Ending) bool { return e.Remote.IsValid() && e.Remote.Port() != 0 }

// hasPID reports whether a process caused an ending, or holds its socket.
func hasPID(e *events.Ending, pid uint32) bool {
	return e.Actor != nil && e.Actor.PID == pid || e.Owner != nil && e.Owner.PID == pid
}
