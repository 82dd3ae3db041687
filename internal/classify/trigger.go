package classify

import (
	"strconv"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Task flags of include/linux/sched.h, unchanged since 5.8 where not said.
const (
	pfExiting    = 0x00000004
	pfIOWorker   = 0x00000010 // 5.12
	pfUserWorker = 0x00004000 // 6.4: what an io_uring worker is, too
	pfKthread    = 0x00200000
)

// trigger is what made the task do it, and for a signal, which.
func (f *fact) trigger() (t events.Trigger, signal int) {
	if stops, _ := f.calledBy("inet_csk_listen_stop"); stops && !f.sent(events.TaskContext) {
		return f.listenerStopped(), 0
	}
	switch {
	case f.sent(events.SCMRightsDropped):
		return events.TriggerSCMRights, 0
	case !f.sent(events.TaskContext):
		return events.TriggerSegment, 0
	case f.TaskFlags&pfKthread != 0:
		return events.TriggerKernel, 0
	case f.exiting():
		if signal := f.ExitCode & 0x7f; signal != 0 {
			return events.TriggerSignal, int(signal)
		}
		return events.TriggerExit, 0
	case f.TaskFlags&(pfIOWorker|pfUserWorker) != 0:
		return events.TriggerIOUring, 0
	}
	return f.bySyscall(), 0
}

// listenerStopped: a listener whose call is not seen, by a task that is not
// known, resets a connection. The kernel stack tells why.
func (f *fact) listenerStopped() events.Trigger {
	for function, t := range map[string]events.Trigger{
		"tcp_abort": events.TriggerNetlink, "inet_shutdown": events.TriggerShutdown,
		"__inet_stream_connect": events.TriggerConnect, "inet_stream_connect": events.TriggerConnect,
	} {
		if called, _ := f.calledBy(function); called {
			return t
		}
	}
	return events.TriggerClose
}

func (f *fact) bySyscall() events.Trigger {
	switch f.Syscall {
	case "close", "close_range":
		return events.TriggerClose
	case "shutdown":
		return events.TriggerShutdown
	case "dup2", "dup3":
		return events.TriggerDup2
	case "execve", "execveat":
		return events.TriggerExecve
	case "io_uring_enter":
		return events.TriggerIOUring
	case "connect":
		return events.TriggerConnect
	case "sendto", "sendmsg":
		if f.Listener != 0 {
			// A listener has nothing to send, so that the call is on a
			// netlink socket: SOCK_DESTROY of the listener.
			return events.TriggerNetlink
		}
	case "", "socketcall": // not known, or one for all of i386
		if f.Kind == events.KindShutdown {
			return events.TriggerShutdown
		}
		return events.TriggerClose
	}
	// Another call held a reference to the file when close(2) came, and was
	// the last to let go.
	return events.TriggerLastReference
}

func (f *fact) waited() time.Duration {
	if f.DurationNS > 0 {
		return time.Duration(f.DurationNS)
	}
	return f.duration(f.WaitedJiffies)
}

// errno names what may be pending on a TCP socket: include/uapi/asm-generic.
func errno(n int32) string {
	switch n {
	case 32:
		return "EPIPE"
	case 101:
		return "ENETUNREACH"
	case 103:
		return "ECONNABORTED"
	case 104:
		return "ECONNRESET"
	case 110:
		return "ETIMEDOUT"
	case 111:
		return "ECONNREFUSED"
	case 113:
		return "EHOSTUNREACH"
	}
	return "errno " + strconv.Itoa(int(n))
}
