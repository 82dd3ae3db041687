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
	for name, tt := range map[string]struct {
		counts       [4]int // by reading; -1: the namespace is not there, or was not read
		moved, edges uint64
	}{
		"read each time":           {[4]int{1, 3, 7, 8}, 7, 2 + 1},
		"new while attaching":      {[4]int{-1, 3, 7, 8}, 8, 3 + 1},
		"new while tracing":        {[4]int{-1, -1, 7, 8}, 8, 1},
		"new while detaching":      {[4]int{-1, -1, -1, 4}, 4, 4},
		"not read after attaching": {[4]int{1, -1, 7, 8}, 7, 7},
		"not read before the end":  {[4]int{1, 3, -1, 8}, 7, 7},
		"read first and last":      {[4]int{1, -1, -1, 8}, 7, 7},
	} {
		var readings []netns.Readings
		for _, n := range tt.counts {
			r := rsts(true, nil)
			if n >= 0 {
				r = rsts(true, map[uint32]uint64{8: uint64(n)})
			}
			readings = append(readings, r)
		}
		n := movedIn(8, readings)
		if n.Moved["TcpOutRsts"] != tt.moved || n.Edges["TcpOutRsts"] != tt.edges {
			t.Errorf("%s: got %+v, want %d moved, %d at the edges", name, n, tt.moved, tt.edges)
		}
	}
}
