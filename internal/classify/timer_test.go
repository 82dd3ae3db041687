package classify

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// Which limit a timer reached, in the order of tcp_write_timeout and tcp_probe_timer:
// 250 jiffies are a second.
func TestLimitsOfTimers(t *testing.T) {
	done := func(before events.State, change ...func(*events.Event)) events.Event {
		ev := events.Event{Kind: events.KindDone, Before: before, After: events.Close, SockErr: etimedout, UnackedBytes: 9}
		for _, f := range change {
			f(&ev)
		}
		return ev
	}
	userTimeout := func(ev *events.Event) { ev.UserTimeoutMS = 1000 }
	asOrphan := func(ev *events.Event) { ev.Flags |= orphan }
	since := func(ms uint32) func(*events.Event) {
		return func(ev *events.Event) { ev.RetransmittingMS, ev.Retransmits = ms, 1 }
	}
	probing := func(jiffies uint32) func(*events.Event) {
		return func(ev *events.Event) {
			ev.UnackedBytes, ev.UnsentBytes, ev.ProbingJiffies, ev.Probes = 0, 700, jiffies, 2
		}
	}
	child := func(ev *events.Event) { ev.Flags |= events.FastOpenChild }
	for name, tt := range map[string]struct {
		ev       events.Event
		want     events.Path
		inferred bool
	}{
		"orphan":                        {done(events.FinWait1, asOrphan), events.AbortOrphanRetries, false},
		"orphan, user timeout":          {done(events.FinWait1, asOrphan, userTimeout), events.AbortUserTimeout, false},
		"SYN, user timeout over":        {done(events.SynSent, userTimeout, since(1000)), events.AbortUserTimeout, false},
		"SYN, number reached":           {done(events.SynSent, userTimeout, since(999)), events.AbortRetransTimeout, false},
		"SYN, time not recorded":        {done(events.SynSent, userTimeout, since(0)), events.AbortRetransTimeout, true},
		"SYN, no user timeout":          {done(events.SynSent, since(3000)), events.AbortRetransTimeout, false},
		"data, user timeout":            {done(events.Established, userTimeout), events.AbortUserTimeout, false},
		"probes, user timeout over":     {done(events.Established, userTimeout, probing(250)), events.AbortUserTimeout, false},
		"probes, number reached":        {done(events.Established, userTimeout, probing(249)), events.AbortRetransTimeout, false},
		"probes, time not recorded":     {done(events.Established, userTimeout, probing(0)), events.AbortUserTimeout, true},
		"probes, no user timeout":       {done(events.Established, probing(250)), events.AbortRetransTimeout, false},
		"probes of an orphan":           {done(events.FinWait1, asOrphan, userTimeout, probing(250)), events.AbortUserTimeout, false},
		"probes of an orphan, number":   {done(events.FinWait1, asOrphan, userTimeout, probing(249)), events.AbortOrphanRetries, false},
		"probes of an orphan, undated":  {done(events.FinWait1, asOrphan, userTimeout, probing(0)), events.AbortOrphanRetries, true},
		"Fast Open child":               {done(events.SynRecv, child), events.AbortSynAckTimeout, false},
		"Fast Open child that closed":   {done(events.FinWait1, child, asOrphan), events.AbortSynAckTimeout, false},
		"Fast Open child, user timeout": {done(events.FinWait1, child, asOrphan, userTimeout), events.AbortSynAckTimeout, false},
	} {
		e := last(t, tt.ev)
		if e.Path != tt.want || (e.Doubt != "") != tt.inferred {
			t.Errorf("%s: %s %q, want %s", name, e.Path, e.Doubt, tt.want)
		}
		window := strings.Contains(e.Cause, "the peer does not read (window 0)") &&
			strings.Contains(e.Cause, "2 window probes unanswered; 700 B were never sent")
		if window != strings.HasPrefix(name, "probes") || window && strings.Contains(e.Cause, "retransmission") {
			t.Errorf("%s: %q", name, e.Cause)
		}
	}
}

// A peer that answers the window probes and does not read is alive: no probe is unanswered.
func TestAnsweredProbes(t *testing.T) {
	ev := gotRST(0)
	ev.SockErr, ev.UserTimeoutMS, ev.ProbingJiffies, ev.UnsentBytes = etimedout, 1000, 250, 700
	want := "TCP_USER_TIMEOUT (1,000 ms) expired: the peer does not read (window 0), all that was sent is acknowledged; " +
		"700 B were never sent"
	if e := last(t, ev); e.Path != events.AbortUserTimeout || e.Cause != want {
		t.Errorf("%s: %q", e.Path, e.Cause)
	}
}

// The window is open and nothing is in flight: what was sent did not leave this host.
func TestHostCannotSend(t *testing.T) {
	ev := events.Event{Kind: events.KindDone, Before: events.Established, SockErr: etimedout, UserTimeoutMS: 700,
		ProbingJiffies: 250, Probes: 2, UnsentBytes: 700, Flags: events.WindowOpen}
	const cannot = ": the peer's window is open, and this host could not send (firewall, no route): 2 attempts failed; " +
		"700 B were never sent"
	for name, tt := range map[string]struct {
		change func(*events.Event)
		want   string // at the begin; without cannot: the peer does not read
		cannot bool
	}{
		"user timeout":       {func(*events.Event) {}, "TCP_USER_TIMEOUT (700 ms) expired", true},
		"number of attempts": {func(ev *events.Event) { ev.UserTimeoutMS = 0 }, "attempts to send exhausted", true},
		"of an orphan": {
			func(ev *events.Event) { ev.UserTimeoutMS, ev.Flags = 0, events.WindowOpen|events.Orphan },
			"closed with unsent output; attempts to send exhausted", true,
		},
		"closed window":      {func(ev *events.Event) { ev.Flags = 0 }, "TCP_USER_TIMEOUT (700 ms) expired", false},
		"answered":           {func(ev *events.Event) { ev.Probes = 0 }, "TCP_USER_TIMEOUT (700 ms) expired", false},
		"nothing was queued": {func(ev *events.Event) { ev.UnsentBytes = 0 }, "TCP_USER_TIMEOUT (700 ms) expired", false},
	} {
		ev := ev
		tt.change(&ev)
		e := last(t, ev)
		if !strings.HasPrefix(e.Cause, tt.want) || strings.Contains(e.Cause, cannot) != tt.cannot ||
			strings.Contains(e.Cause, "does not read") == tt.cannot {
			t.Errorf("%s: %q", name, e.Cause)
		}
	}
}

// A path that loses full segments lets the handshake pass, and no byte after it.
func TestNothingArrived(t *testing.T) {
	const mtu = "not one byte was ever acknowledged, the handshake was: MTU?"
	for name, tt := range map[string]struct {
		before           events.State
		next, unacked, n uint32
		want             bool
	}{
		"client":                    {events.Established, 1001 + 4000, 4000, 0, true},
		"server":                    {events.Established, 1000 + 4000, 4000, 0, true},
		"after some data":           {events.Established, 1000 + 4002, 4000, 0, false},
		"a small request":           {events.Established, 1001 + 1219, 1219, 0, false},
		"with its FIN":              {events.FinWait1, 1001 + 4001, 4000, 0, true},
		"with its FIN, after data":  {events.FinWait1, 1001 + 4002, 4000, 0, false},
		"FIN queued behind output":  {events.FinWait1, 1001 + 4000, 4000, 900, true},
		"output after data, queued": {events.FinWait1, 1002 + 4000, 4000, 900, false},
	} {
		ev := events.Event{Kind: events.KindDone, Before: tt.before, SockErr: etimedout, FirstSent: 1000, SndNxt: tt.next,
			UnackedBytes: tt.unacked, UnsentBytes: tt.n}
		if e := last(t, ev); strings.Contains(e.Cause, mtu) != tt.want {
			t.Errorf("%s: %q", name, e.Cause)
		}
		ev.SockErr = ehostunreach
		const route = "EHOSTUNREACH reported meanwhile; not one byte was ever acknowledged, the handshake was: " +
			"no route, on this host or on the way"
		if e := last(t, ev); strings.Contains(e.Cause, route) != tt.want || strings.Contains(e.Cause, "MTU") {
			t.Errorf("%s, without a route: %q", name, e.Cause)
		}
	}
}

func TestReplyInWords(t *testing.T) {
	listener := func(change func(*events.Event)) events.Event {
		ev := late(300 * ms)
		ev.Before, ev.After, ev.Children, ev.BacklogLimit, ev.Owner = events.Listen, events.Listen, 2, 1, &closer
		change(&ev)
		return ev
	}
	reset := gotRST(0)
	reset.Local, reset.Remote = here, there
	killed := closedBy(0)
	killed.Kind, killed.Flags, killed.Syscall = events.KindAbort, inTask|events.SentRST, "sendmsg"
	fin := late(300 * ms)
	fin.SegmentBytes, fin.SegmentFlags = 0, thFIN|thACK
	for want, evs := range map[string][]events.Event{
		"the accept queue of this listener is full (2 of 1; nginx[42] does not accept): the end of the handshake was probably dropped; 5 B arrived": {listener(func(*events.Event) {})},
		"the accept queue of this listener is full (2 of 1): the end of the handshake was probably dropped; an ACK arrived":                         {listener(func(ev *events.Event) { ev.Owner, ev.SegmentBytes = nil, 0 })},
		"5 B arrived at a listener, for an unknown connection":                                                                                      {listener(func(ev *events.Event) { ev.Children = 1 })},
		"5 B arrived at a listener, for an unknown connection or with an ACK that fits no handshake in progress":                                    {listener(func(ev *events.Event) { ev.Children, ev.PendingRequests = 1, 1 })},
		"5 B arrived 300 ms after nginx[42] closed":                                                                                                 {closedBy(0), listener(func(*events.Event) {})},
		"5 B arrived 300 ms after a RST reset the connection (recv.rst)":                                                                            {reset, late(300 * ms)},
		"5 B arrived 300 ms after nginx[42] ended the connection (abort.diag)":                                                                      {killed, late(300 * ms)},
		"a FIN arrived 300 ms after nginx[42] closed":                                                                                               {closedBy(0), fin},
	} {
		if e := last(t, evs...); e.Cause != want {
			t.Errorf("%q, want %q", e.Cause, want)
		}
	}
}

// A full accept queue does not prove that the handshake of an unknown connection was dropped: a server that was started
// again, or has taken over an address, gets segments of older connections.
func TestFullListenerIsDoubted(t *testing.T) {
	ev := late(300 * ms)
	ev.Before, ev.After, ev.Children, ev.BacklogLimit = events.Listen, events.Listen, 2, 1
	if e := last(t, ev); e.Doubt == "" || !strings.Contains(e.Cause, "probably") {
		t.Errorf("%q, doubt %q", e.Cause, e.Doubt)
	}
	if e := last(t, closedBy(0), ev); e.Doubt != "" {
		t.Errorf("%q, doubt %q", e.Cause, e.Doubt)
	}
}

// connect(AF_UNSPEC) ends an attempt to connect: it did not fail.
func TestDisconnectWhileConnecting(t *testing.T) {
	call := callOf(events.KindDisconnect, 0)
	call.Syscall, call.Before = "connect", events.SynSent
	if e := last(t, call, callOf(events.KindClose, 9)); e.Path != events.ClosedDisconnected {
		t.Errorf("%s %q", e.Path, e.Cause)
	}
}

// tcp_rcv_state_process ends the socket in FIN_WAIT1 before it is answered.
func TestStateBeforeLateReply(t *testing.T) {
	for want, linger2 := range map[events.Path]int32{events.ReplyFINWait1OOO: 0, events.CloseRSTLinger2Late: -1} {
		ev := late(0)
		ev.Before, ev.After, ev.Linger2Jiffies = events.Close, events.Close, linger2
		ev.Flags |= orphan
		if e := last(t, ev); e.Path != want || e.Before != events.FinWait1 {
			t.Errorf("%s in %s, want %s", e.Path, e.Before, want)
		}
	}
}

// IPv4 on an IPv6 socket has the form of IPv4 in all lines of a connection.
func TestOneFormOfAddresses(t *testing.T) {
	ev := closedBy(0)
	ev.Local, ev.Remote = mapped(here), mapped(there)
	if e := last(t, ev); e.Local != here || e.Remote != there {
		t.Errorf("%s, %s", e.Local, e.Remote)
	}
}

func mapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
}

// 24 and 31 bytes are the length of a close_notify of TLS 1.3 and 1.2.
func TestCloseNotify(t *testing.T) {
	for n, want := range map[uint32]bool{23: false, 24: true, 31: true, 32: false} {
		ev := resetBy(0)
		ev.UnreadBytes = n
		if e := last(t, ev); strings.Contains(e.Cause, "perhaps a TLS close_notify") != want {
			t.Errorf("%d: %q", n, e.Cause)
		}
	}
}

// By changes of state, whether a FIN has left is computed.
func TestComputedFIN(t *testing.T) {
	ev := closedBy(0)
	ev.UnsentLeft = 701
	if e := last(t, ev); e.Doubt != "" || !e.Evidence.FINUnsent {
		t.Errorf("observed: %q", e.Doubt)
	}
	ev.Flags |= events.ReturnUnseen
	if e := last(t, ev); e.Doubt == "" || !e.Evidence.FINUnsent {
		t.Errorf("by states: %q", e.Doubt)
	}
	ev.UnsentLeft = 0
	if e := last(t, ev); e.Doubt != "" {
		t.Errorf("sent: %q", e.Doubt)
	}
}

// An orphan that is dropped for lack of memory without a RST has no error: no timer gave it up.
func TestSilentlyOutOfMemory(t *testing.T) {
	e := last(t, events.Event{Kind: events.KindDone, Before: events.FinWait1, After: events.Close, Flags: orphan,
		UserTimeoutMS: 700, UnackedBytes: 9, Stack: []string{"tcp_done", "tcp_out_of_resources", "tcp_write_timer"}})
	if e.Path != events.AbortOrphanOOM || e.Title != "timer, silent" || e.RST || e.Evidence.SockErr != 0 || e.Doubt != "" {
		t.Errorf("%s (%s), RST %v, error %d, doubt %q", e.Path, e.Title, e.RST, e.Evidence.SockErr, e.Doubt)
	}
}

// An error that is pending when the peer's FIN ends a connection in order did not end it.
func TestErrorInFinWait2(t *testing.T) {
	done := events.Event{Kind: events.KindDone, Sock: 3, MonoNS: 9, Before: events.FinWait2, After: events.Close,
		Flags: orphan, SockErr: epipe}
	if endings, unexplained := conclude(done); len(endings) != 0 || unexplained != 0 {
		t.Errorf("%+v, %d unexplained", endings, unexplained)
	}
	done.Flags, done.SockErr = 0, ehostunreach
	if endings, unexplained := conclude(done); len(endings) != 0 || unexplained != 0 {
		t.Errorf("%+v, %d unexplained", endings, unexplained)
	}
	reset := events.Event{Kind: events.KindReset, Sock: 3, Before: events.FinWait2,
		Flags: events.SentRST | events.KeepAlive, Stack: []string{"tcp_keepalive_timer"}}
	if e := last(t, reset, done); e.Path != events.AbortKeepalive || e.Evidence.SockErr != ehostunreach {
		t.Errorf("after a RST: %s, error %d", e.Path, e.Evidence.SockErr)
	}
	done.SockErr = etimedout
	if e := last(t, done); e.Path.Family() != "abort" {
		t.Errorf("timed out: %s", e.Path)
	}
	done.SockErr = ehostunreach
	if all := concludeUnder(events.Header{Missing: []string{"tcp_send_active_reset"}}, done); len(all) != 1 {
		t.Errorf("where a RST is not seen: %+v", all)
	}
}
