package pipeline

import (
	"maps"
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

// A recording keeps the audit of other network namespaces.
func TestRecordedOthers(t *testing.T) {
	made := sink.Summary{Audit: &sink.Audit{Others: []sink.NetnsCounters{
		{Netns: 8, New: true, Moved: sink.Counters{"TcpOutRsts": 2, "TcpInSegs": 0}, Edges: sink.Counters{"TcpOutRsts": 1}},
		{Netns: 9, Impossible: unfound},
	}}}
	read := sink.Summary{Audit: &sink.Audit{Netns: 7}}
	restore(&read, endOf(&made))
	if len(read.Audit.Others) != 2 {
		t.Fatalf("got %+v", read.Audit.Others)
	}
	got := read.Audit.Others[0]
	if !got.New || !maps.Equal(got.Moved, sink.Counters{"TcpOutRsts": 2}) || got.Edges["TcpOutRsts"] != 1 ||
		read.Audit.Others[1].Impossible != unfound {
		t.Errorf("got %+v", read.Audit.Others)
	}
	some := *read.Audit
	if !some.Only([]uint32{7, 9}) || some.Netns != 7 || len(some.Others) != 1 || some.Others[0].Netns != 9 {
		t.Errorf("two of three: %+v", some)
	}
	if !read.Audit.Only([]uint32{8}) || read.Audit.Netns != 8 || len(read.Audit.Others) != 0 ||
		read.Audit.Moved["TcpOutRsts"] != 2 || read.Audit.Only([]uint32{8, 5}) {
		t.Errorf("only one: %+v", read.Audit)
	}
}
