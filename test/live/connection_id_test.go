//go:build linux

package live

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/probe"
)

// All endings of a connection have the same id, at both ends, and no other connection has it: over IPv4, IPv6, and
// IPv4 on an IPv6 socket.
func TestConnectionID(t *testing.T) { attempts(t, connectionIDs) }

func connectionIDs(t testing.TB) {
	tr := trace(t, probe.Filter{})
	tr.mayMiss = true // for attempts to judge
	any6 := netip.IPv6Unspecified()
	var own uint32
	inNetns(t, func(netns uint32) {
		own = netns
		for _, at := range []struct{ listen, connect netip.Addr }{
			{loopback4, loopback4}, {loopback6, loopback6}, {any6, loopback4},
		} {
			l, addr := listen(t, at.listen)
			addr = netip.AddrPortFrom(at.connect, addr.Port())
			for range 10 {
				endConnection(t, l, addr)
			}
			must(t, unix.Close(l))
		}
	})
	ids := map[uint64]map[netip.AddrPort]int{} // the ends of an id
	for _, e := range tr.finish(t) {
		if e.Netns != own || e.Remote.Port() == 0 { // a listener
			continue
		}
		if e.ConnectionID == 0 {
			t.Errorf("%s of %v to %v has no id", e.Path, e.Local, e.Remote)
			continue
		}
		if ids[e.ConnectionID] == nil {
			ids[e.ConnectionID] = map[netip.AddrPort]int{}
		}
		ids[e.ConnectionID][e.Local]++
	}
	for id, ends := range ids {
		if len(ends) != 2 {
			t.Errorf("id %016x is of the ends %v, want two", id, ends)
		}
	}
	if len(ids) != 30 {
		t.Errorf("%d ids of 30 connections", len(ids))
	}
}

// endConnection makes a connection, sends in both directions, shuts it down at one end and resets it at the other.
func endConnection(t testing.TB, listener int, addr netip.AddrPort) {
	t.Helper()
	a, b := connect(t, listener, addr)
	a.send(t, 100)
	b.recv(t, 100)
	b.send(t, 7)
	a.queued(t, 7)
	must(t, unix.Shutdown(b.fd, unix.SHUT_WR))
	must(t, unix.Close(a.fd)) // 7 B unread
	must(t, unix.Close(b.fd))
}
