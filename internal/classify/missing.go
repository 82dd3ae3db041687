package classify

import (
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// unprovenWithout lists what is unproven without an optional hook. A verdict that
// rests on something not having happened is inferred if that would not have been
// seen.
var unprovenWithout = []struct {
	hook  string
	when  func(*fact, events.Path) bool
	doubt string
}{
	{
		"__tcp_close", func(f *fact, _ events.Path) bool { return f.sent(events.MPTCP) && f.Kind != events.KindClose },
		"the close of an MPTCP subflow is not observed: __tcp_close is missing",
	},
	{
		// Both go through tcp_disconnect. Only the system call distinguishes them.
		"inet_shutdown", func(f *fact, _ events.Path) bool {
			return f.Kind == events.KindDisconnect && f.Syscall == "" && f.in(events.Listen, events.SynSent)
		},
		"connect(2) and shutdown(2) are not distinguished: inet_shutdown is missing",
	},
	{
		"tcp_disconnect", func(f *fact, p events.Path) bool {
			return p == events.DisconnectRST && f.Kind == events.KindReset
		},
		"the state before and the unsent output are not observed: tcp_disconnect is missing",
	},
	{
		"tcp_disconnect", func(f *fact, p events.Path) bool { return f.isAfterEnd(p) && f.past == nil },
		"connect(AF_UNSPEC) leaves ECONNRESET as well, and is not observed: tcp_disconnect is missing",
	},
	{
		"tcp_disconnect", func(f *fact, p events.Path) bool { return f.isAfterEnd(p) && f.Kind == events.KindEPIPE },
		"a connect(AF_UNSPEC) in between is not observed: tcp_disconnect is missing",
	},
	{
		"tcp_done", (*fact).isAfterEnd,
		"resets, timeouts and ICMP errors are not observed: tcp_done is missing",
	},
	{
		// Data after both directions were shut down ends a socket like a RST does.
		"tcp:tcp_send_reset", func(f *fact, p events.Path) bool { return p == events.RecvRST && f.ShutdownMask&1 != 0 },
		"data after shutdown(2) or close(2), which is answered with RST, is not observed: tcp:tcp_send_reset is missing",
	},
	{
		"__scm_destroy", func(f *fact, _ events.Path) bool { return f.isEndedAs(events.AppCloseShared) },
		"a last descriptor in a message (SCM_RIGHTS) is not observed: __scm_destroy is missing",
	},
	{
		"task:task_rename", func(f *fact, _ events.Path) bool {
			trigger, _ := f.trigger()
			return trigger == events.TriggerExecve
		},
		"the actor's name is that of the program after execve(2): task:task_rename is missing",
	},
	{
		"signal:signal_deliver", func(_ *fact, p events.Path) bool { return p == events.CloseLingerTimeout },
		"a signal that ended the wait is not observed: signal:signal_deliver is missing",
	},
}

// unproven returns what missing hooks leave in doubt about a verdict, or "".
func unproven(f *fact, p events.Path) string {
	if f.Kind == events.KindClose && f.Before == events.Listen && f.moved() > 0 && !f.childrenSeen() {
		return "no reset of the connections in the accept queue was observed: they had ended, or moved to another listener"
	}
	if doubt := undated(f, p); doubt != "" || len(f.missing) == 0 {
		return doubt
	}
	for _, u := range unprovenWithout {
		if slices.Contains(f.missing, u.hook) && u.when(f, p) {
			return u.doubt
		}
	}
	return ""
}

// undated returns why it is not known which limit of a timer was reached, or "".
// The kernel before 5.10.10, and older recordings, do not have the times.
func undated(f *fact, p events.Path) string {
	switch {
	case f.Kind != events.KindDone || f.UserTimeoutMS == 0:
	case inSynSent(f) && p == events.AbortRetransTimeout && f.RetransmittingMS == 0:
		return "whether TCP_USER_TIMEOUT expired first is unknown: there is no time of the first SYN"
	case f.probing() && f.ProbingJiffies == 0:
		return "whether TCP_USER_TIMEOUT expired first is unknown: there is no time of the first probe"
	}
	return ""
}

// childrenSeen reports whether all is seen that a closing listener does to its
// accept queue. Then it left alone what was not seen being reset. By changes of
// state, a connection that ended in the queue is not seen.
func (f *fact) childrenSeen() bool {
	return !f.sent(events.ReturnUnseen) && !slices.Contains(f.missing, "tcp_disconnect")
}

// isBeforeUnseen reports whether the state before is not known: tcp_disconnect
// puts the socket into CLOSE before it sends the RST, and a segment that is
// answered with RST ends the socket by tcp_done first. This is for events where
// that other function was not seen.
func (f *fact) isBeforeUnseen() bool {
	switch {
	case f.Before != events.Close:
		return false
	case f.Kind == events.KindReply:
		return slices.Contains(f.missing, "tcp_done")
	}
	return f.Kind == events.KindReset
}

// isAfterEnd reports whether a path is that of a call on a socket that had ended
// before, and says how.
func (f *fact) isAfterEnd(p events.Path) bool {
	isCall := f.Kind == events.KindClose || f.Kind == events.KindEPIPE
	return isCall && f.Before == events.Close && (p != events.ClosedNever || f.Local.Port() != 0)
}
