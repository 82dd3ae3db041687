// Package enrich says what /proc knows of an event and the kernel side does
// not: who holds the socket of an ending that was nobody's call.
//
// Everything here is a look-up after the fact, so that it may find nothing, and
// then says nothing. Process ids are those that /proc shows: those of the pid
// namespace that it was mounted in, which for closetrace is meant to be the
// initial one, as the kernel side's ids are.
package enrich

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
)

// What looking up may cost.
const (
	// scanEvery is the least time from scan to scan: ten a second at most.
	scanEvery = 100 * time.Millisecond
	// scanShare is the part of the time that may be spent scanning: one
	// fiftieth. On a machine with very many descriptors scans are rarer.
	scanShare = 50
	// patience is how long an event waits for a scan. A longer one goes on
	// beside it, and helps later events.
	patience = 50 * time.Millisecond
	// validity is how long the result of a scan is believed.
	validity = 10 * time.Second
)

// Owners finds the processes that hold sockets. One scan of /proc finds those
// of all sockets, so that a burst of events needs one scan. Where that would be
// too many scans, an owner is left out. Not for concurrent use.
type Owners struct {
	root     string
	now      func() time.Time
	sinceUp  func() time.Duration // CLOCK_BOOTTIME, which processes' times are of
	patience time.Duration

	holders  holders                 // of the last scan
	tasks    map[uint32]*events.Task // by pid, as far as asked for; nil: gone
	begun    time.Duration           // the last scan, after boot
	scanned  time.Time               // when the last scan was over
	notUntil time.Time               // the next scan
	scanning chan scan               // where the scan that still runs will arrive
}

// scan is a finished one.
type scan struct {
	holders holders
	begun   time.Duration // after boot
	took    time.Duration
}

// NewOwners looks up in a /proc that is mounted at root.
func NewOwners(root string) *Owners {
	return &Owners{root: root, now: time.Now, sinceUp: sinceUp, patience: patience}
}

// Fill sets the owner of an event that was not the owner's own call, if it can
// be found. Calls such as close and shutdown, of which there may be very many,
// cost nothing.
func (o *Owners) Fill(ev *events.Event) {
	if ev.Kind == events.KindShared {
		o.fillHolders(ev)
		return
	}
	if ev.Inode == 0 || !ofAnother(ev) {
		return
	}
	owner, _ := o.Of(ev.Inode, ev.SocketUID)
	if owner == nil || asks(ev) && owner.PID == ev.Task.PID {
		return
	}
	ev.Owner = owner
}

// fillHolders says who still holds a socket of which a descriptor was closed. That
// descriptor stands in what an earlier scan found, so that only a new one counts.
func (o *Owners) fillHolders(ev *events.Event) {
	o.collect(0)
	if o.scanning != nil || o.now().Before(o.notUntil) {
		return
	}
	o.scan(ev.Inode)
	o.collect(o.patience)
	if ev.Searched = o.scanning == nil; !ev.Searched {
		return
	}
	owner, others := o.Of(ev.Inode, ev.SocketUID)
	ev.Owner, ev.OtherHolders = owner, uint32(others)
}

// ofAnother: not the owner brought it about, but a segment, a timer or whoever
// asked for SOCK_DESTROY.
func ofAnother(ev *events.Event) bool {
	switch ev.Kind {
	case events.KindDone, events.KindReply, events.KindPeerFIN, events.KindAbort:
		return true
	case events.KindReset:
		return ev.Listener == 0 && !ev.Flags.Has(events.InReportedCall)
	}
	return false
}

// asks: a task may have asked for it. That a task happens to hold the socket
// when a segment is taken in is another matter.
func asks(ev *events.Event) bool {
	return ev.Kind == events.KindAbort || ev.Kind == events.KindReset && ev.Flags.Has(events.TaskContext)
}

// Of returns the process that holds the socket with this inode, the one with
// the lowest id if there are several, and how many others do. It returns nil if
// the process is not known. uid is taken where /proc does not tell it.
//
// A thread that has a table of descriptors for itself is not looked at, unless
// the first thread of its process has none any more.
func (o *Owners) Of(inode uint64, uid uint32) (task *events.Task, others int) {
	o.collect(0)
	now := o.now()
	h, ok := o.known(inode, now)
	if !ok && o.scanning == nil && !now.Before(o.notUntil) {
		o.scan(inode)
		o.collect(o.patience)
		h, ok = o.known(inode, o.now())
	}
	if !ok {
		return nil, 0
	}
	task, ok = o.tasks[h.pid]
	if !ok {
		task = readTask(o.root, h.pid, uid, o.begun)
		o.tasks[h.pid] = task
	}
	return task, int(h.others)
}

func (o *Owners) known(inode uint64, now time.Time) (holder, bool) {
	if now.Sub(o.scanned) > validity {
		return holder{}, false
	}
	h, ok := o.holders[inode]
	return h, ok
}

// scan begins one, whose result collect takes.
func (o *Owners) scan(inode uint64) {
	done := make(chan scan, 1)
	go func() {
		begin, begun := time.Now(), o.sinceUp()
		found := holdersIn(o.root, inode)
		done <- scan{found, begun, time.Since(begin)}
	}()
	o.scanning = done
}

// collect takes the result of the scan that runs, if there is one that ends in
// time.
func (o *Owners) collect(wait time.Duration) {
	if o.scanning == nil {
		return
	}
	select {
	case s := <-o.scanning:
		o.take(s)
		return
	default:
	}
	if wait <= 0 {
		return
	}
	select {
	case s := <-o.scanning:
		o.take(s)
	case <-time.After(wait):
	}
}

func sinceUp() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0 // only a bad clock id or pointer fails
	}
	return time.Duration(now.Nano())
}

func (o *Owners) take(s scan) {
	o.scanning = nil
	o.holders, o.tasks = s.holders, map[uint32]*events.Task{}
	o.begun, o.scanned = s.begun, o.now()
	o.notUntil = o.scanned.Add(max(scanEvery, scanShare*s.took))
}
