package sink

import (
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

const netns = 7

var (
	rst = &events.Ending{
		Netns:  netns,
		Path:   "close.rst.unread",
		RST:    true,
		Before: events.Established,
		After:  events.Close,
	}
	recv  = &events.Ending{Netns: netns, Path: "recv.rst", Before: events.CloseWait, After: events.Close}
	other = &events.Ending{Netns: netns + 1, Path: "reply.nosocket", RST: true}
)

// in returns an ending of a network namespace that sent a RST in reply.
func in(netns uint32) *events.Ending {
	return &events.Ending{Netns: netns, Path: "reply.nosocket", RST: true}
}

var auditLines = []struct {
	name    string
	audit   Audit
	endings []*events.Ending
	summary Summary
	want    string
}{
	{
		name: "nothing happened",
		want: "audit: RSTs sent 0, explained 0; resets of connections (EstabResets) 0, explained 0",
	},
	{
		name:    "all explained, whatever was lost",
		audit:   Audit{Moved: Counters{"TcpOutRsts": 2, "TcpEstabResets": 3, "TCPAbortOnClose": 2}},
		endings: []*events.Ending{rst, rst, recv}, summary: Summary{LostRecords: 5},
		want: "audit: RSTs sent 2, explained 2; resets of connections (EstabResets) 3, explained 3; TCPAbortOnClose 2, explained 2",
	},
	{
		name:    "other namespaces",
		endings: []*events.Ending{other, other},
		want: "audit: RSTs sent 0, explained 0; resets of connections (EstabResets) 0, explained 0; " +
			"2 endings of other network namespaces not compared",
	},
	{
		name: "losses",
		audit: Audit{
			Moved: Counters{"TcpOutRsts": 1234, "TCPAbortOnTimeout": 1}, Edges: Counters{"TcpEstabResets": 1},
			Missing: []string{"tcp_done", "nf_send_reset", "tcp_fin"}, ByTracepoint: true,
		},
		summary: Summary{LostRecords: 1, MissedProbes: 2, Suppressed: 3, Undecodable: 4, Unexplained: 5},
		want: "audit: RSTs sent 1,234, explained 0; resets of connections (EstabResets) 0, explained 0; " +
			"TCPAbortOnTimeout 1, explained 0; possible cause: 1 lost record, 2 missed probes, " +
			"3 RST replies over the rate limit, 4 undecodable records, 5 unexplained events, " +
			"missing hooks (tcp_done, tcp_fin), " +
			"RST replies without a socket, which this kernel may not report",
	},
	{
		name: "at the edges",
		audit: Audit{
			Moved: Counters{"TcpOutRsts": 2, "TcpEstabResets": 1, "TCPAbortOnClose": 1},
			Edges: Counters{"TcpOutRsts": 1},
		},
		endings: []*events.Ending{rst},
		want: "audit: RSTs sent 2, explained 1; resets of connections (EstabResets) 1, explained 1; " +
			"TCPAbortOnClose 1, explained 1; the difference arose while attaching and detaching",
	},
	{
		name:  "a difference larger than its edges",
		audit: Audit{Moved: Counters{"TcpOutRsts": 2}, Edges: Counters{"TcpOutRsts": 1}},
		want: "audit: RSTs sent 2, explained 0; resets of connections (EstabResets) 0, explained 0; " +
			"the cause of the difference is unknown",
	},
	{
		name:  "a mystery",
		audit: Audit{Moved: Counters{"TcpOutRsts": 1}},
		want: "audit: RSTs sent 1, explained 0; resets of connections (EstabResets) 0, explained 0; " +
			"the cause of the difference is unknown",
	},
	{
		name:    "a kernel that reports replies",
		audit:   Audit{Moved: Counters{"TcpOutRsts": 2}, ByTracepoint: true},
		endings: []*events.Ending{{Netns: netns, Path: "reply.nosocket", RST: true}},
		want: "audit: RSTs sent 2, explained 1; resets of connections (EstabResets) 0, explained 0; " +
			"the cause of the difference is unknown",
	},
	{
		name:    "more than was counted is no loss",
		endings: []*events.Ending{recv}, summary: Summary{LostRecords: 1},
		want: "audit: RSTs sent 0, explained 0; resets of connections (EstabResets) 0, explained 1; " +
			"the cause of the difference is unknown",
	},
	{
		name:    "could not be sent",
		audit:   Audit{Moved: Counters{"TcpOutRsts": 1, "TcpEstabResets": 1, "TCPAbortOnClose": 1, "TCPAbortFailed": 1}},
		endings: []*events.Ending{rst},
		want: "audit: RSTs sent 1, explained 1; resets of connections (EstabResets) 1, explained 1; " +
			"TCPAbortOnClose 1, explained 1; 1 of the RSTs could not be sent (TCPAbortFailed)",
	},
	{
		name:    "exactly the replies over the rate limit",
		audit:   Audit{Moved: Counters{"TcpOutRsts": 13062}, ByTracepoint: true},
		endings: []*events.Ending{{Netns: netns, Path: "reply.nosocket", RST: true}}, summary: Summary{Suppressed: 13061},
		want: "audit: RSTs sent 13,062, explained 1; resets of connections (EstabResets) 0, explained 0; " +
			"the difference: 13,061 RST replies over the rate limit",
	},
	{
		name:    "nearly the replies over the rate limit",
		audit:   Audit{Moved: Counters{"TcpOutRsts": 13062}},
		summary: Summary{Suppressed: 13061},
		want: "audit: RSTs sent 13,062, explained 0; resets of connections (EstabResets) 0, explained 0; " +
			"possible cause: 13,061 RST replies over the rate limit",
	},
	{
		name: "other namespaces with their counters",
		audit: Audit{Others: []NetnsCounters{
			{Netns: netns + 1, Moved: Counters{"TcpOutRsts": 1}},
			{Netns: netns + 2, Moved: Counters{"TcpOutRsts": 2}},
			{Netns: netns + 3, Moved: Counters{"TcpEstabResets": 1}, New: true},
			{Netns: netns + 4, Impossible: "it ended"},
			{Netns: netns + 5, Moved: Counters{"ListenDrops": 1}},
		}},
		endings: []*events.Ending{other, in(netns + 2), in(netns + 4), in(netns + 6)}, summary: Summary{LostRecords: 1},
		want: "audit: RSTs sent 0, explained 0; resets of connections (EstabResets) 0, explained 0; " +
			"1 ending of other network namespaces not compared\n" +
			"audit of 2 other network namespaces: RSTs sent 1, explained 1; " +
			"resets of connections (EstabResets) 0, explained 0\n" +
			"audit of network namespace 9: RSTs sent 2, explained 1; resets of connections (EstabResets) 0, explained 0; " +
			"possible cause: 1 lost record\n" +
			"audit of network namespace 10: RSTs sent 0, explained 0; resets of connections (EstabResets) 1, explained 0; " +
			"possible cause: 1 lost record, RSTs of a namespace that existed before and could not be found\n" +
			"audit skipped for 1 ending of network namespace 11: it ended\n" +
			"dropped without an answer in network namespace 12: 1 SYN or ACK for another reason (ListenDrops)",
	},
	{
		name: "drops",
		audit: Audit{Moved: Counters{
			"ListenOverflows": 3, "ListenDrops": 9, "TCPReqQFullDrop": 2, "TcpOutRsts": 1,
		}},
		endings: []*events.Ending{{Netns: netns, Path: events.ReplyOverflow, RST: true}},
		want: "audit: RSTs sent 1, explained 1; resets of connections (EstabResets) 0, explained 0\n" +
			"dropped without an answer: 2 SYNs or ACKs of handshakes, accept queue full (ListenOverflows); " +
			"2 SYNs, too many handshakes in progress (TCPReqQFullDrop); 4 SYNs or ACKs for another reason (ListenDrops)",
	},
	{
		name:    "not possible",
		audit:   Audit{Impossible: "a filter", Moved: Counters{"TcpOutRsts": 1}},
		endings: []*events.Ending{other},
		want:    "audit skipped: a filter",
	},
}

func TestAuditLine(t *testing.T) {
	for _, tt := range auditLines {
		a := tt.audit
		a.Netns = netns
		for _, e := range tt.endings {
			a.Add(e)
		}
		if got := strings.Join(a.lines(&tt.summary), "\n"); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got, tt.want)
		}
	}
}
