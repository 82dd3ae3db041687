package sink

import "github.com/closetrace/closetrace/internal/events"

// Counters are those of a network namespace, by the names of nstat(8) without "TcpExt".
type Counters map[string]uint64

// Since returns by how much counters moved since an earlier reading of the same namespace. One that is less than before
// has not moved: a difference below 0 would be an immense one.
func (c Counters) Since(earlier Counters) Counters {
	by := Counters{}
	for name, n := range c {
		by[name] = n - min(n, earlier[name])
	}
	return by
}

// traffic are counters that grow with each connection and segment.
var traffic = []string{"TcpInSegs", "TcpOutSegs", "TcpActiveOpens", "TcpPassiveOpens"}

// WentBack reports whether a counter that only grows is less than in an earlier reading. The counters are then those of
// another namespace: the kernel reuses inode numbers.
func (c Counters) WentBack(earlier Counters) bool {
	for _, name := range traffic {
		if c[name] < earlier[name] {
			return true
		}
	}
	for i := range events.Counters {
		if name := i.String(); c[name] < earlier[name] {
			return true
		}
	}
	return false
}

// Names of counters of handshakes that the kernel drops without a segment. No ending moves them.
const (
	listenOverflows = "ListenOverflows"
	listenDrops     = "ListenDrops"
	requestsDropped = "TCPReqQFullDrop"
)

// Dropped reports whether handshakes were dropped.
func (c Counters) Dropped() bool { return c[listenOverflows]+c[listenDrops]+c[requestsDropped] > 0 }
