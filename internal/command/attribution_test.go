package command

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// fakeCgroup and fakeProcess are in the command's group.
const (
	fakeCgroup  = 7
	fakeProcess = 4211
)

type fakeGroup struct{}

func (fakeGroup) Join(*syscall.SysProcAttr)       {}
func (fakeGroup) Contains(id uint64) bool         { return id == fakeCgroup }
func (fakeGroup) ContainsProcess(pid uint32) bool { return pid == fakeProcess }
func (fakeGroup) Close() (left int, err error)    { return 0, nil }

func TestAttribution(t *testing.T) {
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
	listener := called("close.listen", 80, fakeCgroup)
	listener.Remote = netip.AddrPort{}
	unbound := ending("recv.icmp", 80)
	unbound.Remote = netip.AddrPort{}
	elsewhere := ending("reply.tw-data", 1)
	elsewhere.Netns = 6

	type seen []*events.Ending
	for _, tt := range []struct {
		name string
		seen seen
		want string
	}{
		{"its own call", seen{called("close.fin.active", 1, fakeCgroup)}, "close.fin.active"},
		{"another's call", seen{called("close.fin.active", 1, 8)}, ""},
		{"what happens to a socket that it holds", seen{held(ending("recv.rst", 1), fakeProcess)}, "recv.rst"},
		{"to a socket that another holds", seen{held(ending("recv.rst", 1), 3)}, ""},
		{"what another does to its socket", seen{held(called("abort.diag", 1, 8), fakeProcess)}, "abort.diag"},
		{"a reply after its close", seen{called("close.fin.active", 1, fakeCgroup), ending("reply.tw-data", 1)},
			"close.fin.active reply.tw-data"},
		{"a reply after another's close", seen{called("close.fin.active", 1, 8), ending("reply.tw-data", 1)}, ""},
		{"of another connection", seen{called("close.fin.active", 1, fakeCgroup), ending("reply.tw-data", 2)},
			"close.fin.active"},
		{"of another namespace", seen{called("close.fin.active", 1, fakeCgroup), elsewhere}, "close.fin.active"},
		{"before its close", seen{
			ending("recv.fin", 1), ending("recv.rst", 1), called("close.silent.closed.reset", 1, fakeCgroup),
		},
			"recv.fin recv.rst close.silent.closed.reset"},
		{"once", seen{
			ending("recv.rst", 1), called("shutdown.notconn", 1, fakeCgroup), called("close.silent.closed.reset", 1, fakeCgroup),
		},
			"recv.rst shutdown.notconn close.silent.closed.reset"},
		{"of an inherited socket", seen{held(ending("recv.fin", 1), 3), called("close.fin.passive", 1, fakeCgroup)},
			"recv.fin close.fin.passive"},
		{"another's call, same connection", seen{called("close.fin.active", 1, fakeCgroup), called("close.fin.active", 1, 8)},
			"close.fin.active"},
		{"a listener is no connection", seen{listener, unbound}, "close.listen"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var emitted []string
			a := NewAttribution(fakeGroup{}, func(e *events.Ending) { emitted = append(emitted, string(e.Path)) })
			for _, e := range tt.seen {
				if err := a.Write(e); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(emitted, " "); got != tt.want {
				t.Errorf("emitted %q, want %q", got, tt.want)
			}
		})
	}
}

// At most 16,384 connections are pending; the oldest is dropped first.
func TestAttributionIsBounded(t *testing.T) {
	emitted := 0
	a := NewAttribution(fakeGroup{}, func(*events.Ending) { emitted++ })
	e := &events.Ending{Path: "recv.rst", Remote: netip.MustParseAddrPort("10.0.0.9:9")}
	for i := range uint32(16_384 + 10) {
		e.Netns = i
		for range 9 {
			_ = a.Write(e)
		}
	}
	e.Actor, e.CgroupID = &events.Task{}, fakeCgroup
	for _, netns := range []uint32{0, 9, 10, 16_384} {
		e.Netns = netns
		_ = a.Write(e)
	}
	if emitted != 4+2*8 { // 0 and 9 have been dropped
		t.Errorf("%d endings emitted, want %d", emitted, 4+2*8)
	}
}
