package classify

import (
	"strconv"

	"github.com/closetrace/closetrace/internal/events"
)

// Task flags of include/linux/sched.h. Those without a version are the same since
// Linux 5.8.
const (
	pfExiting    = 0x00000004
	pfIOWorker   = 0x00000010 // 5.12
	pfUserWorker = 0x00004000 // 6.4: an io_uring worker has it as well
	pfKthread    = 0x00200000
)

// trigger returns what set off the event and, if it was a signal, which one.
func (f *fact) trigger() (t events.Trigger, signal int) {
	if f.setOff == "" {
		f.setOff, f.signal = f.findTrigger()
	}
	return f.setOff, f.signal
}

// findTrigger is trigger, from the event.
func (f *fact) findTrigger() (t events.Trigger, signal int) {
	inTask := f.sent(events.TaskContext)
	switch {
	case !inTask && f.isCalledBy("inet_csk_listen_stop"):
		return f.listenerTrigger(), 0
	case f.sent(events.SCMRightsDropped):
		return events.TriggerSCMRights, 0
	case !inTask:
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

// listenerTrigger returns why a listener resets a connection where neither its
// call nor its task was seen: the kernel stack shows it.
func (f *fact) listenerTrigger() events.Trigger {
	switch {
	case f.isCalledBy("tcp_abort"):
		return events.TriggerNetlink
	case f.isCalledBy("inet_shutdown"):
		return events.TriggerShutdown
	case f.isCalledBy("inet_stream_connect", "__inet_stream_connect"):
		return events.TriggerConnect
	}
	return events.TriggerClose
}

var syscallTriggers = map[string]events.Trigger{
	"close": events.TriggerClose, "close_range": events.TriggerClose,
	"shutdown": events.TriggerShutdown,
	"dup2":     events.TriggerDup2, "dup3": events.TriggerDup2,
	"execve": events.TriggerExecve, "execveat": events.TriggerExecve,
	"io_uring_enter": events.TriggerIOUring,
	"connect":        events.TriggerConnect,
}

// bySyscall returns the trigger of an event by the system call of its task.
func (f *fact) bySyscall() events.Trigger {
	switch f.Syscall {
	case "close":
		return events.TriggerClose
	case "", "socketcall": // not known, or the one for all of i386
		if f.Kind == events.KindShutdown {
			return events.TriggerShutdown
		}
		return events.TriggerClose
	case "sendto", "sendmsg":
		if f.Listener != 0 {
			return events.TriggerNetlink // a listener sends no data: SOCK_DESTROY of it by netlink
		}
	}
	if t, ok := syscallTriggers[f.Syscall]; ok {
		return t
	}
	// The last of several references to the file was that of another call.
	return events.TriggerLastReference
}

// errno returns the name of an error of a TCP socket.
func errno(n int32) string {
	switch n {
	case eacces:
		return "EACCES"
	case epipe:
		return "EPIPE"
	case enetunreach:
		return "ENETUNREACH"
	case econnaborted:
		return "ECONNABORTED"
	case econnreset:
		return "ECONNRESET"
	case etimedout:
		return "ETIMEDOUT"
	case econnrefused:
		return "ECONNREFUSED"
	case ehostunreach:
		return "EHOSTUNREACH"
	}
	return "errno " + strconv.Itoa(int(n))
}
