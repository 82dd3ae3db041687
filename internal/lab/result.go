package lab

import "net/netip"

// Result describes a run of a scenario: its sockets and processes, its window,
// and what the kernel counted. Its JSON form is stored with recorded events, to
// compare them again.
type Result struct {
	// Netns is the inode number of the scenario's network namespace.
	Netns uint32 `json:"netns"`
	// Sockets has the addresses of every named socket. The server side of
	// connection A, accepted or not, is also there as "A.peer".
	Sockets map[string]Endpoint `json:"sockets"`
	// StartNS and EndNS are CLOCK_MONOTONIC nanoseconds: the window in
	// which the endings must lie. It ends before the remaining sockets are
	// closed.
	StartNS uint64 `json:"start_ns"`
	EndNS   uint64 `json:"end_ns"`
	// Counters are the differences over the window, by nstat's names
	// without "TcpExt".
	Counters map[string]uint64 `json:"counters"`
	// IDs are process ids of helpers and thread ids of threads, by name, in the initial pid namespace; 0 if that is not
	// known.
	IDs map[string]int `json:"ids,omitempty"`
	// NotPossible says which need does not hold on this machine, and how
	// that was found. The steps were not run then.
	NotPossible string `json:"not_possible,omitempty"`
	// Unmet is that need, as the scenario names it.
	Unmet string `json:"unmet,omitempty"`
}

// Endpoint is a socket's pair of addresses. An address that the socket never
// had is the zero AddrPort. IPv4-mapped addresses are written as IPv4.
type Endpoint struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
}

// swap returns the endpoint as the other side sees it.
func (e Endpoint) swap() Endpoint { return Endpoint{Local: e.Remote, Remote: e.Local} }

// unmap writes IPv4-mapped addresses as IPv4 and drops zones.
func (e Endpoint) unmap() Endpoint {
	plain := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	}
	return Endpoint{Local: plain(e.Local), Remote: plain(e.Remote)}
}
