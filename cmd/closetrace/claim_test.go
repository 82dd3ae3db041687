package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// Which endings are the command's: its cgroup is 7, its process 4211.
func TestClaim(t *testing.T) {
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("10.0.0.5"), port) }
	ending := func(path events.Path, local uint16) *events.Ending {
		return &events.Ending{Path: path, Local: at(local), Remote: at(9), Netns: 5}
	}
	called := func(path events.Path, local uint16, cgroup uint64) *events.Ending {
		e := ending(path, local)
		e.Actor, e.CgroupID = &events.Task{PID: 1}, cgroup
		return e
	}
	held := func(e *events.Ending, pid uint32) *events.Ending {
		e.Owner = &events.Task{PID: pid}
		return e
	}
	listener := called("close.listen", 80, 7)
	listener.Remote = netip.AddrPort{}
	unbound := ending("recv.icmp", 80)
	unbound.Remote = netip.AddrPort{}
	elsewhere := ending("reply.tw-data", 1)
	elsewhere.Netns = 6

	for _, tt := range []struct {
		name string
		seen []*events.Ending
		want string
	}{
		{"its own call", []*events.Ending{called("close.fin.active", 1, 7)}, "close.fin.active"},
		{"another's call", []*events.Ending{called("close.fin.active", 1, 8)}, ""},
		{"what happens to a socket that it holds", []*events.Ending{held(ending("recv.rst", 1), 4211)}, "recv.rst"},
		{"to a socket that another holds", []*events.Ending{held(ending("recv.rst", 1), 3)}, ""},
		{"what another does to its socket", []*events.Ending{held(called("abort.diag", 1, 8), 4211)}, "abort.diag"},
		{"a reply after its close", []*events.Ending{called("close.fin.active", 1, 7), ending("reply.tw-data", 1)}, "close.fin.active reply.tw-data"},
		{"a reply after another's close", []*events.Ending{called("close.fin.active", 1, 8), ending("reply.tw-data", 1)}, ""},
		{"of another connection", []*events.Ending{called("close.fin.active", 1, 7), ending("reply.tw-data", 2)}, "close.fin.active"},
		{"of another namespace", []*events.Ending{called("close.fin.active", 1, 7), elsewhere}, "close.fin.active"},
		{"before its close", []*events.Ending{ending("recv.fin", 1), ending("recv.rst", 1), called("close.silent.closed.reset", 1, 7)},
			"recv.fin recv.rst close.silent.closed.reset"},
		{"told once", []*events.Ending{ending("recv.rst", 1), called("shutdown.notconn", 1, 7), called("close.silent.closed.reset", 1, 7)},
			"recv.rst shutdown.notconn close.silent.closed.reset"},
		{"of a socket that it got from another process", []*events.Ending{held(ending("recv.fin", 1), 3), called("close.fin.passive", 1, 7)},
			"recv.fin close.fin.passive"},
		{"another's call on the same connection", []*events.Ending{called("close.fin.active", 1, 7), called("close.fin.active", 1, 8)}, "close.fin.active"},
		{"a listener is no connection", []*events.Ending{listener, unbound}, "close.listen"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var told []string
			c := newClaim(fakeGroup{}, func(e *events.Ending) { told = append(told, string(e.Path)) })
			for _, e := range tt.seen {
				if err := c.Write(e); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(told, " "); got != tt.want {
				t.Errorf("told %q, want %q", got, tt.want)
			}
		})
	}
}

// Whatever the machine does, what is remembered is bounded; the oldest is
// forgotten first.
func TestClaimIsBounded(t *testing.T) {
	told := 0
	c := newClaim(fakeGroup{}, func(*events.Ending) { told++ })
	e := &events.Ending{Path: "recv.rst", Remote: netip.MustParseAddrPort("10.0.0.9:9")}
	for i := range uint32(maxClaims + 10) {
		e.Netns = i
		for range 9 {
			_ = c.Write(e)
		}
	}
	if len(c.waiting.of) != maxClaims {
		t.Errorf("%d connections wait", len(c.waiting.of))
	}
	e.Actor, e.CgroupID = &events.Task{}, fakeCgroup
	for _, netns := range []uint32{0, 9, 10, maxClaims} {
		e.Netns = netns
		_ = c.Write(e)
	}
	if told != 4+2*8 {
		t.Errorf("%d told", told)
	}
}
