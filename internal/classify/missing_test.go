package classify

import (
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// Each verdict is sure with all hooks, and inferred, or another, without the one
// that it rests on.
func TestMissingHooks(t *testing.T) {
	child := events.Event{
		Kind: events.KindClose, Before: events.Listen, After: events.Close, Children: 2, ChildrenReset: 1,
		Flags: inTask,
	}
	aborted := []string{"tcp_send_active_reset", "tcp_disconnect", "inet_stream_connect"}
	tests := []struct {
		name, hook string
		evs        []events.Event
		whole      events.Path // "": not explained
		degraded   events.Path
	}{
		{"a subflow", "__tcp_close", []events.Event{
			{
				Kind: events.KindReset, Before: events.Established,
				Flags: inTask | events.SentRST | events.MPTCP, Syscall: "close",
			},
		}, events.AbortMPTCP, events.AbortMPTCP},
		{"the system call is not known", "inet_shutdown", []events.Event{
			{Kind: events.KindDisconnect, Before: events.Listen, After: events.Close, Flags: inTask | events.Disconnected},
		}, events.DisconnectListen, events.DisconnectListen},
		{"a child that is gone", "tcp_disconnect", []events.Event{child}, events.CloseListenMigrated, events.CloseListen},
		{"a disconnect", "tcp_disconnect", []events.Event{
			{Kind: events.KindReset, Before: events.Close, Flags: inTask | events.SentRST, Syscall: "connect", Stack: aborted},
		}, "", events.DisconnectRST},
		{"ECONNRESET", "tcp_disconnect", []events.Event{
			{Kind: events.KindClose, Before: events.Close, SockErr: econnreset, Flags: inTask},
		}, events.ClosedReset, events.ClosedReset},
		{"a write", "tcp_disconnect", []events.Event{
			{
				Kind: events.KindShutdown, Before: events.Established, After: events.FinWait1, How: 2,
				Flags: inTask | events.SentFIN, Sock: 1,
			},
			{Kind: events.KindEPIPE, Before: events.Close, Flags: inTask, Sock: 1, MonoNS: 1},
		}, events.AppWriteAfterShutdown, events.AppWriteAfterShutdown},
		{"ETIMEDOUT", "tcp_done", []events.Event{
			{Kind: events.KindClose, Before: events.Close, SockErr: etimedout, Flags: inTask},
		}, events.ClosedTimeout, events.ClosedTimeout},
		{"data after shutdown", "tcp:tcp_send_reset", []events.Event{
			{Kind: events.KindDone, Before: events.FinWait2, After: events.Close, SockErr: econnreset, ShutdownMask: 3},
		}, events.RecvRST, events.RecvRST},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for i := range tt.evs {
				tt.evs[i].Local, tt.evs[i].Remote = here, there
			}
			if e := lastWithout(t, nil, tt.evs); e.Path != tt.whole || e.Doubt != "" {
				t.Errorf("with it: %s, %s (%s); want %s, observed", e.Path, e.Confidence(), e.Doubt, tt.whole)
			}
			if e := lastWithout(t, []string{tt.hook}, tt.evs); e.Path != tt.degraded || e.Doubt == "" {
				t.Errorf("without: %s, %s; want %s, inferred", e.Path, e.Confidence(), tt.degraded)
			}
			if e := lastWithout(t, []string{"sk_stream_error"}, tt.evs); e.Path != tt.whole || e.Doubt != "" {
				t.Errorf("without another: %s, %s (%s)", e.Path, e.Confidence(), e.Doubt)
			}
		})
	}
}

// The close of a socket whose end was observed is as sure as that end.
func TestMissingHooksAfterEnd(t *testing.T) {
	e := lastWithout(t, []string{"tcp_disconnect"}, []events.Event{
		{Kind: events.KindDone, Sock: 1, Local: here, Remote: there, Before: events.Established, SockErr: econnreset},
		{Kind: events.KindClose, Sock: 1, Local: here, Remote: there, Before: events.Close, Flags: inTask, MonoNS: 1},
	})
	if e.Path != events.ClosedReset || e.Doubt != "" {
		t.Errorf("%s, doubt %q", e.Path, e.Doubt)
	}
}

// What a missing hook cannot hide stays observed.
func TestMissingHooksElsewhere(t *testing.T) {
	for name, tt := range map[string]struct {
		hook string
		ev   events.Event
		want events.Path
	}{
		// Only a socket that was shut down for reading answers data with RST.
		"a RST after shutdown(SHUT_WR)": {"tcp:tcp_send_reset", events.Event{
			Kind: events.KindDone, Before: events.FinWait2, After: events.Close, SockErr: econnreset, ShutdownMask: 2,
		}, events.RecvRST},
		"a timeout after shutdown(2)": {"tcp:tcp_send_reset", events.Event{
			Kind: events.KindDone, Before: events.FinWait1, After: events.Close, SockErr: etimedout, ShutdownMask: 3,
		}, events.AbortRetransTimeout},
		"a disconnect whose system call is known": {"inet_shutdown", events.Event{
			Kind: events.KindDisconnect, Before: events.Listen, After: events.Close, Syscall: "connect",
			Flags: inTask | events.Disconnected,
		}, events.DisconnectListen},
		"a disconnect in ESTABLISHED": {"inet_shutdown", events.Event{
			Kind: events.KindDisconnect, Before: events.Established, After: events.Close,
			Flags: inTask | events.Disconnected | events.SentRST,
		}, events.DisconnectRST},
		"a reset in ESTABLISHED": {"tcp_disconnect", events.Event{
			Kind: events.KindClose, Before: events.Established, After: events.Close, UnreadBytes: 1,
			AtRST: events.Established, Flags: inTask | events.SentRST,
		}, events.CloseRSTUnread},
		"the close of a socket that was never connected": {"tcp_done", events.Event{
			Kind: events.KindClose, Before: events.Close, After: events.Close, Flags: inTask,
		}, events.ClosedNever},
		"the close of a TCP socket": {"__tcp_close", events.Event{
			Kind: events.KindClose, Before: events.Established, After: events.FinWait1, Flags: inTask | events.SentFIN,
		}, events.CloseFINActive},
		"a FIN of a TCP socket": {"__tcp_close", events.Event{
			Kind: events.KindFIN, Before: events.Established, After: events.FinWait1, Flags: events.SentFIN,
		}, events.ShutdownDeferred},
		"a disconnect by its changes of state": {"tcp_disconnect", events.Event{
			Kind: events.KindShutdown, Before: events.Established, After: events.Close, Syscall: "connect",
			Flags: inTask | events.ReturnUnseen | events.Disconnected | events.SentRST,
		}, events.DisconnectRST},
		"a close that does not linger": {"signal:signal_deliver", events.Event{
			Kind: events.KindClose, Before: events.Established, After: events.FinWait1, Flags: inTask | events.SentFIN,
		}, events.CloseFINActive},
	} {
		if e := lastWithout(t, []string{tt.hook}, []events.Event{tt.ev}); e.Path != tt.want || e.Doubt != "" {
			t.Errorf("%s: %s, %s (%s); want %s, observed", name, e.Path, e.Confidence(), e.Doubt, tt.want)
		}
	}
}

// lastWithout is the last ending of some events under a header with missing
// hooks, or none.
func lastWithout(t *testing.T, missing []string, evs []events.Event) (last events.Ending) {
	t.Helper()
	h := testHeader
	h.Missing = missing
	c := New(h)
	keep := func(e *events.Ending) { last = *e }
	for _, ev := range evs {
		c.Push(&ev, keep)
	}
	c.Flush(keep)
	return last
}

// What a doubtful ending explains is as doubtful.
func TestDoubtIsPassedOn(t *testing.T) {
	e := lastWithout(t, []string{"tcp:tcp_send_reset"}, []events.Event{
		{
			Kind: events.KindDone, Sock: 1, Local: here, Remote: there, Before: events.FinWait1,
			SockErr: econnreset, ShutdownMask: 3,
		},
		{Kind: events.KindClose, Sock: 1, Local: here, Remote: there, Before: events.Close, Flags: inTask, MonoNS: 1},
	})
	if e.Path != events.ClosedReset || !strings.Contains(e.Doubt, "tcp:tcp_send_reset") {
		t.Errorf("%s, doubt %q", e.Path, e.Doubt)
	}
}

// Without a kernel stack the state of the socket decides, and is no proof.
func TestNoStackIsInferred(t *testing.T) {
	ev := events.Event{Kind: events.KindReset, Before: events.FinWait2, Flags: events.SentRST | events.Orphan}
	if e := lastWithout(t, nil, []events.Event{
		ev,
	}); e.Path != events.AbortFINWait2 || !strings.Contains(e.Doubt, "CAP_SYSLOG") {
		t.Errorf("%s, doubt %q", e.Path, e.Doubt)
	}
	for errno, want := range map[int32]events.Path{ehostunreach: events.RecvICMP, econnrefused: events.RecvRST} {
		refused := events.Event{Kind: events.KindDone, Before: events.SynSent, After: events.Close, SockErr: errno}
		if e := lastWithout(t, nil, []events.Event{refused}); e.Path != want || !strings.Contains(e.Doubt, "CAP_SYSLOG") {
			t.Errorf("refused by error %d: %s, doubt %q", errno, e.Path, e.Doubt)
		}
		refused.RST = &events.RSTHeaders{TTL: 64}
		if e := lastWithout(t, nil, []events.Event{refused}); want == events.RecvRST && e.Doubt != "" {
			t.Errorf("refused by a RST that was seen: doubt %q", e.Doubt)
		}
	}
	ev.Stack = []string{"tcp_send_active_reset", "tcp_keepalive_timer"}
	if e := lastWithout(t, nil, []events.Event{ev}); e.Path != events.AbortFINWait2 || e.Doubt != "" {
		t.Errorf("with a stack: %s, doubt %q", e.Path, e.Doubt)
	}
}

// Handshakes of a closed listener go on at another one of its group, if there is one.
func TestHandshakesMayMigrate(t *testing.T) {
	ev := events.Event{Kind: events.KindClose, Before: events.Listen, After: events.Close, PendingRequests: 2,
		Flags: inTask | events.MayMigrate}
	e := lastWithout(t, nil, []events.Event{ev})
	if e.Path != events.CloseListen || !strings.Contains(e.Doubt, "SO_REUSEPORT") || e.IsAbnormal() {
		t.Errorf("%s, doubt %q, abnormal %v", e.Path, e.Doubt, e.IsAbnormal())
	}
	ev.Flags = inTask
	e = lastWithout(t, nil, []events.Event{ev})
	if e.Path != events.CloseListenSynRecv || e.Doubt != "" || !e.IsAbnormal() {
		t.Errorf("%s, doubt %q, abnormal %v", e.Path, e.Doubt, e.IsAbnormal())
	}
}
