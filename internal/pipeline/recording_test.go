package pipeline

import (
	"maps"
	"testing"

	"github.com/closetrace/closetrace/internal/sink"
)

// A recording keeps the audit of other network namespaces.
func TestRecordedOthers(t *testing.T) {
	made := sink.Summary{Audit: &sink.Audit{Others: []sink.NetnsCounters{
		{Netns: 8, New: true, Moved: sink.Counters{"TcpOutRsts": 2, "TcpInSegs": 0}, Edges: sink.Counters{"TcpOutRsts": 1}},
		{Netns: 9, Impossible: "it ended"},
	}}}
	read := sink.Summary{Audit: &sink.Audit{Netns: 7}}
	restore(&read, endOf(&made))
	if len(read.Audit.Others) != 2 {
		t.Fatalf("got %+v", read.Audit.Others)
	}
	got := read.Audit.Others[0]
	if !got.New || !maps.Equal(got.Moved, sink.Counters{"TcpOutRsts": 2}) || got.Edges["TcpOutRsts"] != 1 ||
		read.Audit.Others[1].Impossible != "it ended" {
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
