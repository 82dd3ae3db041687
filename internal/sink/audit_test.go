package sink

import (
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

const netns = 7

var (
	rst   = &events.Ending{Netns: netns, Path: "close.rst.unread", RST: true, Before: events.Established, After: events.Close}
	recv  = &events.Ending{Netns: netns, Path: "recv.rst", Before: events.CloseWait, After: events.Close}
	other = &events.Ending{Netns: netns + 1, Path: "reply.nosocket", RST: true}
)

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
			Missing: []string{"tcp_done", "tcp_fin"}, ByTracepoint: true,
		},
		summary: Summary{LostRecords: 1, MissedProbes: 2, Suppressed: 3, Undecodable: 4, Unexplained: 5},
		want: "audit: RSTs sent 1,234, explained 0; resets of connections (EstabResets) 0, explained 0; " +
			"TCPAbortOnTimeout 1, explained 0; the difference may be 1 lost record, 2 missed probes, " +
			"3 RSTs in reply beyond the rate, 4 records not decoded, 5 events not explained, " +
			"hooks that are missing here (tcp_done, tcp_fin), " +
			"RSTs in reply where there is no socket, which this kernel may not tell of",
	},
	{
		name:    "at the edges",
		audit:   Audit{Moved: Counters{"TcpOutRsts": 2, "TcpEstabResets": 1, "TCPAbortOnClose": 1}, Edges: Counters{"TcpOutRsts": 1}},
		endings: []*events.Ending{rst},
		want: "audit: RSTs sent 2, explained 1; resets of connections (EstabResets) 1, explained 1; " +
			"TCPAbortOnClose 1, explained 1; the difference is what happened while attaching and detaching",
	},
	{
		name:  "a difference larger than its edges",
		audit: Audit{Moved: Counters{"TcpOutRsts": 2}, Edges: Counters{"TcpOutRsts": 1}},
		want: "audit: RSTs sent 2, explained 0; resets of connections (EstabResets) 0, explained 0; " +
			"the cause of the difference is not known",
	},
	{
		name:  "a mystery",
		audit: Audit{Moved: Counters{"TcpOutRsts": 1}},
		want: "audit: RSTs sent 1, explained 0; resets of connections (EstabResets) 0, explained 0; " +
			"the cause of the difference is not known",
	},
	{
		name:    "a kernel that tells of replies",
		audit:   Audit{Moved: Counters{"TcpOutRsts": 2}, ByTracepoint: true},
		endings: []*events.Ending{{Netns: netns, Path: "reply.nosocket", RST: true}},
		want: "audit: RSTs sent 2, explained 1; resets of connections (EstabResets) 0, explained 0; " +
			"the cause of the difference is not known",
	},
	{
		name:    "more than was counted is no loss",
		endings: []*events.Ending{recv}, summary: Summary{LostRecords: 1},
		want: "audit: RSTs sent 0, explained 0; resets of connections (EstabResets) 0, explained 1; " +
			"the cause of the difference is not known",
	},
	{
		name:    "could not be sent",
		audit:   Audit{Moved: Counters{"TcpOutRsts": 1, "TcpEstabResets": 1, "TCPAbortOnClose": 1, "TCPAbortFailed": 1}},
		endings: []*events.Ending{rst},
		want: "audit: RSTs sent 1, explained 1; resets of connections (EstabResets) 1, explained 1; " +
			"TCPAbortOnClose 1, explained 1; 1 of the RSTs could not be sent (TCPAbortFailed)",
	},
	{
		name:    "not possible",
		audit:   Audit{Impossible: "a filter", Moved: Counters{"TcpOutRsts": 1}},
		endings: []*events.Ending{other},
		want:    "audit: not possible: a filter",
	},
}

func TestAuditLine(t *testing.T) {
	for _, tt := range auditLines {
		a := tt.audit
		a.Netns = netns
		for _, e := range tt.endings {
			a.Add(e)
		}
		if got := a.line(&tt.summary); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// Which counters an ending moves, besides TcpOutRsts for its RST.
func TestAuditMapping(t *testing.T) {
	const est, wait1, synSent, closed = events.Established, events.FinWait1, events.SynSent, events.Close
	linger0 := events.Evidence{LingerOn: true}
	tests := []struct {
		ending events.Ending
		want   []string
	}{
		{events.Ending{Path: "close.fin.active", Before: est, After: wait1, FIN: true}, nil},
		{events.Ending{Path: "close.rst.oom", Before: est, After: closed, FIN: true, RST: true}, []string{"TCPAbortOnMemory"}},
		{events.Ending{Path: "close.rst.linger0", Before: est, After: closed, RST: true}, []string{"TCPAbortOnData", "TcpEstabResets"}},
		{events.Ending{Path: "close.silent.linger0", Before: events.LastAck, After: closed}, []string{"TCPAbortOnData"}},
		{events.Ending{Path: "close.silent.synsent", Before: synSent, After: closed}, nil},
		{events.Ending{Path: "close.silent.synsent", Before: synSent, After: closed, Evidence: linger0}, []string{"TCPAbortOnData"}},
		{
			events.Ending{Path: "close.silent.synsent", Before: synSent, After: closed, Evidence: events.Evidence{LingerOn: true, Linger: time.Second}},
			nil,
		},
		{events.Ending{Path: "close.silent.repair", Before: est, After: closed}, []string{"TcpEstabResets"}},
		{events.Ending{Path: "close.rst.linger2", Before: events.FinWait2, After: closed, RST: true}, []string{"TCPAbortOnLinger"}},
		{events.Ending{Path: "abort.keepalive", Before: est, After: est, RST: true}, []string{"TCPAbortOnTimeout", "TcpEstabResets"}},
		{events.Ending{Path: "abort.user-timeout", Before: est, After: closed}, []string{"TCPAbortOnTimeout", "TcpEstabResets"}},
		{events.Ending{Path: "abort.fin-wait2", Before: events.FinWait2, After: closed, RST: true}, nil},
		// predicted, and no RST seen
		{events.Ending{Path: "close.rst.unread", Before: events.FinWait2, After: closed}, nil},
		{events.Ending{Path: "reply.nosocket", RST: true}, nil},
		{events.Ending{Path: "recv.fin", Before: est, After: events.CloseWait}, nil},
	}
	for _, tt := range tests {
		var a Audit
		a.Add(&tt.ending)
		want := Counters{}
		if tt.ending.RST {
			want["TcpOutRsts"] = 1
		}
		for _, name := range tt.want {
			want[name] = 1
		}
		for name, n := range a.Explained() {
			if n != want[name] {
				t.Errorf("%s moves %s by %d, not by %d", tt.ending.Path, name, n, want[name])
			}
		}
	}
}
