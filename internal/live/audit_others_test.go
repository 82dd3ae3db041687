package live

import (
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/netns"
	"github.com/closetrace/closetrace/internal/sink"
)

// rsts returns readings of TcpOutRsts by namespace.
func rsts(complete bool, by map[uint32]uint64) netns.Readings {
	r := netns.Readings{Counters: map[uint32]map[string]uint64{}, Failed: map[uint32]string{}, Complete: complete}
	for inode, n := range by {
		r.Counters[inode] = map[string]uint64{"TcpOutRsts": n, "TcpInSegs": n}
	}
	return r
}

// The counters of other network namespaces are compared if what they did in the run is known.
func TestOtherCounters(t *testing.T) {
	failed := rsts(true, map[uint32]uint64{8: 200})
	failed.Failed[6] = "not permitted"
	for name, tt := range map[string]struct {
		first, last map[uint32]uint64
		incomplete  bool
		ended       uint32 // has an ending
		want        sink.NetnsCounters
	}{
		"read":              {map[uint32]uint64{8: 10}, map[uint32]uint64{8: 14}, false, 8, sink.NetnsCounters{Netns: 8}},
		"moved, no ending":  {map[uint32]uint64{8: 10}, map[uint32]uint64{8: 14}, false, 0, sink.NetnsCounters{Netns: 8}},
		"new":               {nil, map[uint32]uint64{8: 4}, false, 8, sink.NetnsCounters{Netns: 8, New: true}},
		"perhaps not new":   {nil, map[uint32]uint64{8: 4}, true, 8, sink.NetnsCounters{Netns: 8, Impossible: lateFound}},
		"ended":             {map[uint32]uint64{8: 10}, nil, false, 8, sink.NetnsCounters{Netns: 8, Impossible: unfound}},
		"number used again": {map[uint32]uint64{8: 10}, map[uint32]uint64{8: 4}, false, 8, sink.NetnsCounters{Netns: 8, Impossible: otherSpace}},
		"neither":           {map[uint32]uint64{8: 10}, map[uint32]uint64{8: 10}, false, 0, sink.NetnsCounters{}},
	} {
		c := &counters{Audit: sink.Audit{Netns: 7}}
		if tt.ended != 0 {
			c.Add(&events.Ending{Netns: tt.ended})
		}
		begin, end := rsts(!tt.incomplete, tt.first), rsts(true, tt.last)
		c.others = []netns.Readings{begin, begin, end, end}
		c.finishOthers()
		var got sink.NetnsCounters
		if len(c.Others) > 0 {
			got = c.Others[0]
		}
		moved := got.Moved["TcpOutRsts"]
		if got.Netns != tt.want.Netns || got.Impossible != tt.want.Impossible || got.New != tt.want.New ||
			(moved == 4) != (got.Netns != 0 && got.Impossible == "") {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
	}
	before, after := rsts(true, map[uint32]uint64{8: 10}), rsts(true, map[uint32]uint64{8: 14})
	before.Counters[8]["TcpEstabResets"] = 1
	if n := movedIn(8, []netns.Readings{before, before, after, after}); n.Impossible != otherSpace {
		t.Errorf("fewer resets than before: %+v", n)
	}
	n := movedIn(6, []netns.Readings{failed, failed, failed, failed})
	if n.Impossible != "not permitted" {
		t.Errorf("unreadable: %q", n.Impossible)
	}
	edges := []netns.Readings{
		rsts(true, map[uint32]uint64{8: 1}), rsts(true, map[uint32]uint64{8: 3}),
		rsts(true, map[uint32]uint64{8: 7}), rsts(true, map[uint32]uint64{8: 8}),
	}
	if n := movedIn(8, edges); n.Moved["TcpOutRsts"] != 7 || n.Edges["TcpOutRsts"] != 2+1 {
		t.Errorf("edges: got %+v", n)
	}
}
