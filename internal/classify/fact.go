package classify

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// fact is an event with what the rules need to know beside it.
type fact struct {
	*events.Event
	hz      uint64
	missing []string // optional hooks that could not be attached
	losses  losses
	past    *past // what happened before to the socket or the connection, or nil
	peer    *past // the RST that the other end on this host sent, or nil
	// notesLost: past is nil, and notes of closes were overwritten before they were read.
	notesLost bool

	// What is concluded from the event more than once.
	setOff events.Trigger // by trigger, with signal; empty: not concluded yet
	signal int
}

// Errors of a socket: include/uapi/asm-generic/errno.h.
const (
	enoent       = 2
	eacces       = 13 // ICMPv6: administratively prohibited
	epipe        = 32
	enetunreach  = 101
	econnaborted = 103
	econnreset   = 104
	etimedout    = 110
	econnrefused = 111
	ehostunreach = 113
)

// TCP flags of a segment.
const (
	thFIN = 0x01
	thSYN = 0x02
	thRST = 0x04
	thACK = 0x10
)

// Directions of shutdown(2), of include/net/sock.h.
const (
	sendShutdown   = 2 // SEND_SHUTDOWN
	bothDirections = 3 // SHUTDOWN_MASK
)

func (f *fact) sent(flags events.Flags) bool { return f.Flags.Has(flags) }

// in reports whether the socket was in one of these states before.
func (f *fact) in(states ...events.State) bool {
	for _, s := range states {
		if f.Before == s {
			return true
		}
	}
	return false
}

// afterShutdown reports whether an earlier shutdown(2) has sent the FIN.
func (f *fact) afterShutdown() bool {
	return f.in(events.FinWait1, events.FinWait2, events.Closing, events.LastAck)
}

// linger0 reports whether SO_LINGER {1,0} is set.
func (f *fact) linger0() bool { return f.sent(events.LingerOn) && f.LingerJiffies == 0 }

// exiting reports whether the task is past exit_signals(), where a close does not
// wait for SO_LINGER.
func (f *fact) exiting() bool { return f.TaskFlags&pfExiting != 0 }

// timeout returns how long tcp_close may wait for the ACK of its FIN, in jiffies.
// If its argument was not seen, the rule of inet_release gives it.
func (f *fact) timeout() uint64 {
	if f.sent(events.ReturnUnseen) && f.sent(events.LingerOn) && !f.exiting() {
		return f.LingerJiffies
	}
	return f.TimeoutJiffies
}

// lingered reports whether a close waited for the ACK of its FIN, whether the FIN
// was sent by this close or before.
func (f *fact) lingered() bool {
	if f.timeout() == 0 || f.sent(events.SentRST) || f.Before == events.FinWait2 {
		return false
	}
	return f.sent(events.SentFIN) || f.afterShutdown()
}

// unacknowledged reports whether the FIN had no ACK when the call was over.
func (f *fact) unacknowledged() bool {
	switch cmp.Or(f.AtReturn, f.After) {
	case events.FinWait1, events.Closing, events.LastAck:
		return true
	}
	return false
}

func (f *fact) duration(jiffies uint64) time.Duration {
	if jiffies == 0 || f.hz == 0 {
		return 0
	}
	return time.Duration(min(jiffies, 1<<53/f.hz) * uint64(time.Second) / f.hz)
}

func (f *fact) userTimeout() time.Duration { return time.Duration(f.UserTimeoutMS) * time.Millisecond }

// probing reports whether a timer ended the socket that probed a closed window:
// all that was sent was acknowledged.
func (f *fact) probing() bool {
	return f.UnackedBytes == 0 && (f.ProbingJiffies > 0 || f.Probes > 0)
}

// cannotSend reports whether the timer did not probe a closed window, but sent data that failed each time on this host,
// for example because netfilter dropped it in OUTPUT. A segment that leaves is in flight, and ends the probing
// (tcp_send_probe0).
func (f *fact) cannotSend() bool {
	return f.probing() && f.Probes > 0 && f.UnsentBytes > 0 && f.sent(events.WindowOpen)
}

func (f *fact) linger2() time.Duration {
	if f.Linger2Jiffies < 0 {
		return -1
	}
	return f.duration(uint64(f.Linger2Jiffies))
}

// waited returns how long the call took.
func (f *fact) waited() time.Duration {
	if f.DurationNS > 0 {
		return time.Duration(f.DurationNS)
	}
	return f.duration(f.WaitedJiffies)
}

// lingerWait returns how long SO_LINGER blocked the close.
func (f *fact) lingerWait() time.Duration {
	if f.Kind != events.KindClose || !f.lingered() {
		return 0
	}
	return f.waited()
}

// restore sets what the kernel side could not see.
func (f *fact) restore() {
	switch f.Kind {
	case events.KindClose:
		f.restoreWait()
	case events.KindDone:
		f.restoreError()
	}
}

// restoreWait sets how long a close lingered whose return was not seen: if
// nothing ended the wait before, it was the whole time.
func (f *fact) restoreWait() {
	if f.lingered() && f.unacknowledged() && f.waited() == 0 {
		f.WaitedJiffies = f.timeout()
	}
}

// restoreError sets the error that ended a socket. The kernel sets it before it
// ends the socket, and the application may have read it (SO_ERROR) in between.
// The function that ended the socket shows what it was.
func (f *fact) restoreError() {
	switch {
	case f.SockErr != 0, orphanOutOfMemory(f): // which sets no error
	case f.byWriteTimer():
		f.SockErr = etimedout
	case f.isCalledBy("tcp_reset"):
		f.SockErr = resetError(f.Before)
	}
}

// byWriteTimer reports whether the stack shows that the timer of retransmissions and window probes ended the socket.
func (f *fact) byWriteTimer() bool {
	return f.isCalledBy("tcp_write_timer", "tcp_write_timer_handler", "tcp_retransmit_timer")
}

// wasReset reports whether the error is the one that tcp_reset sets in this state. A timer passes on any error that an
// ICMP message had reported before: in SYN_SENT, where that may be the same one, it is in the stack. tcp_reset itself
// often is not: from 6.11 on it ends with a jump to tcp_done_with_error.
func (f *fact) wasReset() bool {
	return f.SockErr == resetError(f.Before) && !(inSynSent(f) && f.byWriteTimer())
}

// resetError returns the error that tcp_reset sets (net/ipv4/tcp_input.c).
func resetError(before events.State) int32 {
	switch before {
	case events.SynSent:
		return econnrefused
	case events.CloseWait:
		return epipe
	}
	return econnreset
}

// isCalledBy reports whether one of these functions is in the kernel stack.
func (f *fact) isCalledBy(functions ...string) bool {
	for _, name := range f.Stack {
		base, _, _ := strings.Cut(name, ".") // .isra, .constprop, .part, .cold
		if slices.Contains(functions, base) {
			return true
		}
	}
	return false
}

// hasStack reports whether the kernel stack could be read.
func (f *fact) hasStack() bool { return len(f.Stack) > 0 }

// moved returns how many connections a closing listener left alone. A listener
// that does not empty its accept queue has given it to another of its group.
func (f *fact) moved() uint32 {
	gone := max(f.ChildrenDropped, f.ChildrenReset)
	if gone >= f.Children {
		return 0
	}
	return f.Children - gone
}

// isEndedBy reports whether a path of a family ended the socket before.
func (f *fact) isEndedBy(family string) bool { return f.past != nil && f.past.path.Family() == family }

// isEndedAs reports whether one of these paths ended the socket before.
func (f *fact) isEndedAs(paths ...events.Path) bool {
	return f.past != nil && slices.Contains(paths, f.past.path)
}

// hasError reports whether one of these errors is pending on the socket.
func (f *fact) hasError(errnos ...int32) bool { return slices.Contains(errnos, f.SockErr) }
