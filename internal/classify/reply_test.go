package classify

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// A segment without a socket that was meant for another connection says so, unless its own connection is remembered.
func TestMeantForAnother(t *testing.T) {
	reply := late(9)
	reply.OtherRemote = netip.MustParseAddrPort("10.9.9.9:6007")
	reply.Owner = &events.Task{PID: 4211, Comm: "python3"}
	const want = "5 B arrived from an address without a connection; " +
		"python3[4211] has one from the same address and port to 10.9.9.9:6007: " +
		"address translation (conntrack) may not have restored the source, or it is of an older connection"
	e := last(t, reply)
	if e.Path != events.ReplyNoSocket || e.Cause != want || e.Doubt == "" {
		t.Errorf("got %s, %q, doubt %q", e.Path, e.Cause, e.Doubt)
	}
	reply.Owner = nil
	if e := last(t, reply); !strings.Contains(e.Cause, "; a process has one from") {
		t.Errorf("without an owner: %q", e.Cause)
	}
	if e := last(t, closedBy(0), reply); strings.Contains(e.Cause, "translation") || e.Earlier == nil {
		t.Errorf("of a connection that this side closed: %q", e.Cause)
	}
	reply.OtherRemote = netip.AddrPort{}
	if e := last(t, reply); strings.Contains(e.Cause, "translation") || e.Doubt != "" {
		t.Errorf("of no connection: %q, doubt %q", e.Cause, e.Doubt)
	}
}
