package classify

import (
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// ownerWindow is how long an ending that a segment, a timer or another process
// caused waits for the next call on the same socket, which names its owner. It is
// also how long the end of a socket waits for the reply, or for the call on this
// host, that caused it.
const ownerWindow = 100 * time.Millisecond

// lookUpAfter is how long after such an ending its owner is looked up, if no call has
// named it: the live source lets 50 ms pass between two looks at the clock, and the
// owner may close the socket as soon as the ending no longer waits for that.
const lookUpAfter = 40 * time.Millisecond

// nameCaller sets the owner of an event that happened while a task held the lock
// of the socket: the task was in a call on it, and processed its backlog. Only
// SOCK_DESTROY locks the socket of another process.
func (c *Classifier) nameCaller(ev *events.Event) {
	if ev.Flags.Has(events.TaskContext) && ev.TaskFlags&pfKthread == 0 && ev.SockErr != econnaborted {
		ev.Owner, ev.OwnerBy = c.task(&ev.Task), events.OwnerByCall
	}
}

// awaitsOwner reports whether the application may call on the socket of an event
// again, and the event is not that application's call.
func awaitsOwner(ev *events.Event) bool {
	switch ev.Kind {
	case events.KindDone, events.KindReply, events.KindAbort:
	case events.KindReset:
		if ev.Listener != 0 || ev.Flags.Has(events.InReportedCall) {
			return false
		}
	default:
		return false
	}
	switch ev.Before {
	case events.StateUnknown, events.Listen, events.TimeWait, events.NewSynRecv:
		return false
	}
	return ev.Sock != 0 && !ev.Flags.Has(events.Orphan) && ev.OwnerBy == ""
}

// lacksOwner reports whether an event is about a socket whose owner was not in a
// call on it, before or after, and may be looked up.
func lacksOwner(ev *events.Event) bool {
	switch ev.Kind {
	case events.KindPeerFIN:
		return ev.Owner == nil
	case events.KindDone, events.KindReply, events.KindAbort, events.KindReset:
		return ev.Owner == nil && ev.Inode != 0
	}
	return false
}

// awaitOwner lets an event wait whose owner may still show, or returns it.
func (c *Classifier) awaitOwner(ev *events.Event, emit func(*events.Ending)) *events.Event {
	if awaitsOwner(ev) {
		return c.waitForOwner(ev, emit)
	}
	return ev
}

// isOwnersCall reports whether an event is a call that only a holder of the socket
// makes.
func isOwnersCall(ev *events.Event) bool {
	switch ev.Kind {
	case events.KindClose, events.KindShutdown, events.KindDisconnect, events.KindEPIPE, events.KindShared:
		return ev.Flags.Has(events.TaskContext) && ev.TaskFlags&pfKthread == 0
	}
	return false
}

// isProcReader reports whether a close is that of a task that looked at a link of
// /proc/PID/fd, such as lsof, ss -p or closetrace itself. It refers to the file for
// a moment. If the holder closes its descriptor meanwhile, the reader drops the
// last reference.
func isProcReader(ev *events.Event) bool {
	switch ev.Syscall {
	case "readlink", "readlinkat", "stat", "newfstatat", "statx":
		return ev.Kind == events.KindClose
	}
	return false
}

// nameOwner sets the owner of the pending events of the socket that a call is on.
func (c *Classifier) nameOwner(ev *events.Event) {
	if !isOwnersCall(ev) || isProcReader(ev) {
		return
	}
	for w := c.joins.first(bySocket, ev); w != nil; w = w.next[bySocket] {
		if awaitsOwner(&w.event) && sameSocket(&w.event, ev) && mayBeOneConnection(&w.event, ev) {
			w.event.Owner, w.event.OwnerBy = c.task(&ev.Task), ownerByClose(&w.event, events.OwnerByLaterCall)
			c.doubtOwner(&w.event, ev)
		}
	}
}

// ownerByClose returns how the owner of an event is known that a close of its socket names: by the call in which it
// waits under SO_LINGER or, if it does not, by what is given. The record of that call may come before the event or
// after it.
func ownerByClose(ev *events.Event, otherwise events.OwnerBy) events.OwnerBy {
	if lingers(&fact{Event: ev}) {
		return events.OwnerByCall
	}
	return otherwise
}

// follows reports whether a call comes after the end of its socket that is still
// pending, and so has to wait behind it.
func (c *Classifier) follows(ev *events.Event) *waiting {
	end := c.joins.find(ev, events.KindDone)
	if end == nil || !isOwnersCall(ev) || c.joins.find(ev, events.KindClose) != nil {
		return nil // after its close, another socket has the address
	}
	return end
}

// setOwner sets who held the socket of an ending, and how that is known. An orphan
// has no owner; the process that closed it was the last.
func setOwner(e *events.Ending, f *fact) {
	e.Owner, e.OwnerBy = f.Owner, f.OwnerBy
	switch {
	case e.Owner != nil && e.OwnerBy == "":
		e.OwnerBy = events.OwnerByProc
	case e.Owner == nil && e.Actor == nil && f.past != nil && f.past.actor != nil && f.sent(events.Orphan):
		e.Owner, e.OwnerBy = f.past.actor, events.OwnerByEarlierCall
	}
}
