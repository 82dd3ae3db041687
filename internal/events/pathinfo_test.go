package events

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSeverity(t *testing.T) {
	for name, tt := range map[string]struct {
		e    Ending
		want Severity
	}{
		"a RST sent":            {Ending{Path: "close.rst.unread", RST: true}, Severe},
		"a RST received":        {Ending{Path: "recv.rst"}, Severe},
		"a harmless RST":        {Ending{Path: "reply.tw-data", RST: true, Harmless: true}, Plain},
		"the answer to a stray": {Ending{Path: "reply.embryonic", RST: true}, Plain},
		"aborted without a RST": {Ending{Path: "abort.user-timeout"}, Notable},
		"aborted with a RST":    {Ending{Path: "abort.keepalive", RST: true}, Severe},
		"an ICMP error":         {Ending{Path: "recv.icmp"}, Notable},
		"silent":                {Ending{Path: "close.silent.linger0", Before: SynSent}, Notable},
		"silent, by connect(2)": {Ending{Path: "disconnect.silent", Before: SynSent}, Notable},
		"nothing to end":        {Ending{Path: "disconnect.silent", Before: Close}, Plain},
		"it had ended before":   {Ending{Path: "close.silent.closed.reset", Before: Close}, Plain},
		"a FIN":                 {Ending{Path: "close.fin.active", FIN: true}, Plain},
	} {
		if got := tt.e.Severity(); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

// Each path has one row, in the order that documents show.
func TestPathsTable(t *testing.T) {
	families := Families()
	for i, p := range Paths() {
		if p.Path == "" || p.Title == "" || p.Harmless == "" {
			t.Errorf("row %d is not complete: %+v", i, p)
		}
		if p.Path.Info().Path != p.Path {
			t.Errorf("%s has the row of %q", p.Path, p.Path.Info().Path)
		}
		if i == 0 {
			continue
		}
		last := paths[i-1].Path
		order := slices.Index(families, p.Path.Family()) - slices.Index(families, last.Family())
		if order < 0 || order == 0 && strings.Compare(string(last), string(p.Path)) >= 0 {
			t.Errorf("%s after %s", p.Path, last)
		}
	}
	if unknown := Path("close.rst.unheard-of").Info(); unknown.Path != "" || unknown.Abnormal != ByFacts {
		t.Errorf("an unknown path has the row %+v", unknown)
	}
}

func TestIsAbnormal(t *testing.T) {
	for name, tt := range map[string]struct {
		e    Ending
		want bool
	}{
		"unread data":                {Ending{Path: ClosedReset, Evidence: Evidence{UnreadBytes: 1}}, true},
		"unread data, still open":    {Ending{Path: ShutdownRead, Evidence: Evidence{UnreadBytes: 1}}, false},
		"unread data, disconnect":    {Ending{Path: DisconnectSilent, Evidence: Evidence{UnreadBytes: 1}}, true},
		"a call that failed":         {Ending{Path: ShutdownNotConnected, Evidence: Evidence{Errno: 107}}, true},
		"a call that did not fail":   {Ending{Path: ShutdownNotConnected}, false},
		"a write that failed":        {Ending{Path: AppWriteAfterReset}, true},
		"a lingering close, timeout": {Ending{Path: CloseLingerTimeout, FIN: true}, true},
		"a lingering close, done":    {Ending{Path: CloseLingerDone, FIN: true}, false},
		"dropped handshakes":         {Ending{Path: CloseListenSynRecv}, true},
		"a harmless RST received":    {Ending{Path: RecvRST, Harmless: true}, false},
		"a stray segment":            {Ending{Path: ReplySynRecvBadACK, RST: true}, false},
		"killed":                     {Ending{Path: CloseFINActive, Trigger: TriggerSignal, Before: Established}, true},
		"killed after the peer":      {Ending{Path: CloseFINPassive, Trigger: TriggerSignal, Before: CloseWait}, true},
		"killed after its own FIN":   {Ending{Path: CloseAfterShutdown, Trigger: TriggerSignal, Before: FinWait2}, false},
		"an exit":                    {Ending{Path: CloseFINActive, Trigger: TriggerExit, Before: Established}, false},
		"a request without answer":   {Ending{Path: CloseFINActive, Evidence: Evidence{Unanswered: true}}, true},
		"a second one":               {Ending{Path: CloseFINActive, Evidence: Evidence{Unanswered: true, BytesSent: 9}}, false},
		"a request dropped":          {Ending{Path: CloseFINActive, Trigger: TriggerClose, Evidence: quiet(1)}, true},
		"a one-way protocol":         {Ending{Path: CloseFINActive, Trigger: TriggerClose, Evidence: quiet(1001)}, false},
		"one that exits":             {Ending{Path: CloseFINActive, Trigger: TriggerExit, Evidence: quiet(1001)}, true},
		"one that starts another":    {Ending{Path: CloseFINActive, Trigger: TriggerExecve, Evidence: quiet(1001)}, true},
		"a lost race of connects":    {Ending{Path: CloseSilentSynSent}, false},
		"given up after two SYNs":    {Ending{Path: CloseSilentSynSent, Evidence: Evidence{Retransmits: 1}}, true},
		"an unknown path":            {Ending{Path: "close.new", RST: true}, true},
	} {
		if got := tt.e.IsAbnormal(); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if reasons := AbnormalReasons(); len(reasons) != 10 || slices.Contains(reasons, "") {
		t.Errorf("got %q", reasons)
	}
}

// Which counters an ending moves, besides TcpOutRsts for its RST.
// quiet is the evidence of a server that never sent a byte, some time after the last byte came.
func quiet(ms int) Evidence {
	return Evidence{Unanswered: true, BytesReceived: 18, LastReceived: time.Duration(ms) * time.Millisecond}
}

func TestMoved(t *testing.T) {
	const est, wait1, synSent, closed = Established, FinWait1, SynSent, Close
	linger0 := Evidence{LingerOn: true}
	for _, tt := range []struct {
		e    Ending
		want []Counter
	}{
		{Ending{Path: CloseFINActive, Before: est, After: wait1, FIN: true}, nil},
		{Ending{Path: CloseRSTOOM, Before: est, After: closed, FIN: true, RST: true}, []Counter{AbortOnMemory}},
		{Ending{Path: CloseRSTLinger0, Before: est, After: closed, RST: true}, []Counter{AbortOnData, EstabResets}},
		{Ending{Path: CloseRSTLinger0, Before: FinWait2, After: closed, RST: true}, []Counter{AbortOnData}},
		{Ending{Path: CloseRSTLinger0Unsent, Before: LastAck, After: closed, RST: true}, []Counter{AbortOnData}},
		{Ending{Path: CloseRSTChild, After: closed, RST: true}, []Counter{EstabResets}},
		{Ending{Path: CloseRSTChild, Before: CloseWait, After: closed, RST: true}, []Counter{EstabResets}},
		{Ending{Path: CloseRSTChild, Before: SynRecv, After: closed, RST: true}, nil},
		{Ending{Path: CloseSilentLinger0, Before: LastAck, After: closed}, []Counter{AbortOnData}},
		{Ending{Path: CloseSilentSynSent, Before: synSent, After: closed}, nil},
		{Ending{Path: CloseSilentSynSent, Before: synSent, After: closed, Evidence: linger0}, []Counter{AbortOnData}},
		{
			Ending{Path: CloseSilentSynSent, Before: synSent, After: closed, Evidence: Evidence{LingerOn: true, Linger: time.Second}},
			nil,
		},
		{Ending{Path: CloseSilentRepair, Before: est, After: closed}, []Counter{EstabResets}},
		{Ending{Path: CloseRSTLinger2, Before: FinWait2, After: closed, RST: true}, []Counter{AbortOnLinger}},
		{Ending{Path: AbortKeepalive, Before: est, After: est, RST: true}, []Counter{AbortOnTimeout, EstabResets}},
		{Ending{Path: AbortUserTimeout, Before: est, After: closed}, []Counter{AbortOnTimeout, EstabResets}},
		{Ending{Path: AbortFINWait2, Before: FinWait2, After: closed, RST: true}, nil},
		// predicted, and no RST seen
		{Ending{Path: CloseRSTUnread, Before: FinWait2, After: closed}, nil},
		{Ending{Path: ReplyNoSocket, RST: true}, nil},
		{Ending{Path: RecvFIN, Before: est, After: CloseWait}, nil},
		{Ending{Path: RecvRST, Before: CloseWait, After: closed}, []Counter{EstabResets}},
		{Ending{Path: RecvRST, Before: FinWait2, After: closed}, nil},
	} {
		var got, want Moved
		got.Add(&tt.e)
		if tt.e.RST {
			want[OutRsts] = 1
		}
		for _, c := range tt.want {
			want[c] = 1
		}
		if got != want {
			t.Errorf("%s from %s moves %v, want %v", tt.e.Path, tt.e.Before, got, want)
		}
	}
}

func TestHasNoEffect(t *testing.T) {
	any4 := netip.MustParseAddrPort("0.0.0.0:0")
	local, remote := netip.MustParseAddrPort("10.0.0.5:443"), netip.MustParseAddrPort("10.0.0.9:51234")
	for name, tt := range map[string]struct {
		e    Ending
		want bool
	}{
		"after its end":        {Ending{Path: ClosedReset, Before: Close, Earlier: &Past{}, Local: local, Remote: remote}, true},
		"its end was not seen": {Ending{Path: ClosedReset, Before: Close, Local: local, Remote: remote}, false},
		"of unknown cause":     {Ending{Path: CloseSilentClosed, Before: Close, Local: local, Remote: remote}, false},
		"never connected":      {Ending{Path: ClosedNever, Before: Close, Local: local}, true},
		"unread bytes": {
			Ending{Path: ClosedTimeWait, Before: Close, Earlier: &Past{}, Evidence: Evidence{UnreadBytes: 1}}, false,
		},
		"given up":            {Ending{Path: CloseSilentSynSent, Before: SynSent, Local: local, Remote: remote}, false},
		"without addresses":   {Ending{Path: ShutdownRead, Local: any4, Remote: any4}, true},
		"the same over IPv6":  {Ending{Path: ShutdownRead, Local: netip.MustParseAddrPort("[::]:0"), Remote: any4}, true},
		"a call that failed":  {Ending{Path: AppWriteNotConnected, Local: any4, Remote: any4}, false},
		"a listener":          {Ending{Path: CloseListen, Local: netip.MustParseAddrPort("0.0.0.0:80"), Remote: any4}, false},
		"a FIN":               {Ending{Path: CloseFINActive, FIN: true, Local: local, Remote: remote}, false},
		"addresses not known": {Ending{Path: ReplyNoSocket}, false},
	} {
		if got := tt.e.HasNoEffect(); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What [Ending.IsAbnormal] asks first is true of every ending of which an abnormal fact holds.
func TestAbnormalFactsAreOdd(t *testing.T) {
	held := map[int]bool{}
	for _, info := range Paths() {
		for bits := range 1 << 8 {
			e := Ending{Path: info.Path, RST: bits&1 != 0, Before: []State{Established, Close}[bits>>1&1]}
			e.Trigger = []Trigger{TriggerClose, TriggerSignal}[bits>>2&1]
			v := &e.Evidence
			v.Unanswered, v.BytesSent = bits>>3&1 != 0, uint64(bits>>4&1)
			v.UnreadBytes, v.Retransmits, v.Errno = uint32(bits>>5&1), uint32(bits>>6&1), bits>>7&1
			for i, f := range abnormalFacts {
				if holds := f.holds(&e); holds && !e.hasOddFact() {
					t.Fatalf("%s, facts %b: %s", info.Path, bits, f.reason)
				} else if holds {
					held[i] = true
				}
			}
		}
	}
	if len(held) != len(abnormalFacts) {
		t.Errorf("%d of %d facts were ever true", len(held), len(abnormalFacts))
	}
}
