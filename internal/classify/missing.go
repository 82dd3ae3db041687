package classify

import (
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// What a hook that could not be attached leaves unproven. Where a verdict rests
// on something not having happened, it is inferred if that would not have been
// seen.
var unprovenWithout = []struct {
	hook  string
	when  func(*fact, events.Path) bool
	doubt string
}{
	{
		"__tcp_close", func(f *fact, _ events.Path) bool { return f.sent(events.MPTCP) && f.Kind != events.KindClose },
		"the close of an MPTCP subflow is not seen here: __tcp_close is missing",
	},
	{
		// Both go through tcp_disconnect. The system call tells, where known.
		"inet_shutdown", func(f *fact, _ events.Path) bool {
			return f.Kind == events.KindDisconnect && f.Syscall == "" && f.before(events.Listen, events.SynSent)
		},
		"whether connect(2) or shutdown(2) did it is not seen here: inet_shutdown is missing",
	},
	{
		"tcp_disconnect", func(f *fact, p events.Path) bool { return p == DisconnectRST && f.Kind == events.KindReset },
		"the state before and what was still to be sent are not seen here: tcp_disconnect is missing",
	},
	{
		"tcp_disconnect", func(f *fact, p events.Path) bool { return f.afterItsEnd(p) && f.past == nil },
		"connect(AF_UNSPEC) is not seen here, and leaves ECONNRESET behind, too: tcp_disconnect is missing",
	},
	{
		"tcp_disconnect", func(f *fact, p events.Path) bool { return f.afterItsEnd(p) && f.Kind == events.KindEPIPE },
		"whether connect(AF_UNSPEC) came in between is not seen here: tcp_disconnect is missing",
	},
	{
		"tcp_done", (*fact).afterItsEnd,
		"resets, timeouts and ICMP errors are not seen here: tcp_done is missing",
	},
	{
		// Data after both directions were shut down ends a socket like a RST does.
		"tcp:tcp_send_reset", func(f *fact, p events.Path) bool { return p == RecvRST && f.ShutdownMask&1 != 0 },
		"whether it was data after shutdown(2) or close(2), answered with RST, is not seen here: tcp:tcp_send_reset is missing",
	},
	{
		"__scm_destroy", func(f *fact, _ events.Path) bool { return f.Kind == events.KindClose && f.endedAs(AppCloseShared) },
		"whether the last descriptor was in a message (SCM_RIGHTS) is not seen here: __scm_destroy is missing",
	},
	{
		"signal:signal_deliver", func(_ *fact, p events.Path) bool { return p == CloseLingerTimeout },
		"whether a signal ended the wait sooner is not seen here: signal:signal_deliver is missing",
	},
}

// unproven says what a missing hook leaves in doubt about a verdict, if
// anything.
func (c *Classifier) unproven(f *fact, p events.Path) string {
	if f.Kind == events.KindClose && f.Before == events.Listen && f.moved() > 0 && !f.childrenSeen() {
		return "connections not yet accepted were not seen being reset: they had ended before, or moved to another listener"
	}
	if len(f.missing) == 0 {
		return ""
	}
	for _, u := range unprovenWithout {
		if slices.Contains(f.missing, u.hook) && u.when(f, p) {
			return u.doubt
		}
	}
	return ""
}

// childrenSeen: all that a closing listener does to its queue is seen, so that
// what is not has been left alone. By its states a connection is not seen that
// had ended in the queue.
func (f *fact) childrenSeen() bool {
	return !f.sent(events.ReturnUnseen) && !slices.Contains(f.missing, "tcp_disconnect")
}

// disconnectUnseen: a RST of tcp_disconnect, which could not be attached.
func disconnectUnseen(f *fact) bool {
	return f.Kind == events.KindReset && slices.Contains(f.missing, "tcp_disconnect") &&
		f.from(f.Syscall == "connect", "tcp_disconnect")
}

// beforeUnseen: tcp_disconnect puts the socket into CLOSE before it sends the
// RST, a segment that is answered with RST ends it by tcp_done. Where neither is
// seen, the state before is not known.
func (f *fact) beforeUnseen() bool {
	switch {
	case f.Before != events.Close:
		return false
	case f.Kind == events.KindReply:
		return slices.Contains(f.missing, "tcp_done")
	}
	return f.Kind == events.KindReset
}

// afterItsEnd: a call on a socket that had ended before, of which the verdict
// says how.
func (f *fact) afterItsEnd(p events.Path) bool {
	return f.Before == events.Close && (f.Kind == events.KindClose || f.Kind == events.KindEPIPE) && p != ClosedNever
}
