// Package enrich adds to events what /proc and cgroupfs know: the process that holds a socket, the paths of cgroups,
// and the function names of a stack.
//
// It looks them up after the fact, so it may find nothing. Process ids are those that /proc shows: those of the pid
// namespace in which it was mounted. closetrace expects the initial one, whose ids the kernel side reports.
package enrich

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
)

// Limits on the cost of look-ups.
const (
	// scanEvery is the least time between two scans.
	scanEvery = 100 * time.Millisecond
	// scanShare bounds the processor time spent on scans: a scan of 1 ms is followed by at least 50 ms without one, 2 %
	// of the time. On a machine with very many descriptors scans are rarer.
	scanShare = 50
	// waitShare bounds how long events wait for scans on a busy machine, where they take longer: a fifth of the time.
	waitShare = 4
	// scanTimeout is how long an event waits for a scan. A longer scan continues in the background, for later events.
	scanTimeout = 50 * time.Millisecond
	// validity is how long the result of a scan is used.
	validity = 10 * time.Second
)

// Owners finds the processes that hold sockets. One scan of /proc finds those of all sockets, so a burst of events
// needs one scan. If a scan is not due yet, the event gets no owner. It is not safe for concurrent use.
type Owners struct {
	root    string
	now     func() time.Time
	sinceUp func() time.Duration // CLOCK_BOOTTIME, as start times in /proc
	timeout time.Duration        // scanTimeout

	holders  holders                 // of the last scan
	tasks    map[uint32]*events.Task // by pid, those that were looked up; nil: ended
	begun    time.Duration           // when the last scan began, since boot
	scanned  time.Time               // when the last scan ended
	notUntil time.Time               // earliest time of the next scan
	scanning chan scan               // delivers the result of a running scan; nil: none runs
}

// scan is the result of a scan.
type scan struct {
	holders holders
	begun   time.Duration // since boot
	took    time.Duration
	cpu     time.Duration // processor time
}

// NewOwners returns an Owners that reads the /proc mounted at root.
func NewOwners(root string) *Owners {
	return &Owners{root: root, now: time.Now, sinceUp: sinceUp, timeout: scanTimeout}
}

// Resolve sets the owner of an event that another process or the kernel caused, if it can be found. Calls of the owner,
// such as close and shutdown, cost nothing.
func (o *Owners) Resolve(ev *events.Event) {
	if ev.Kind == events.KindShared {
		o.resolveHolders(ev)
		return
	}
	if ev.Inode == 0 || !needsOwner(ev) {
		return
	}
	owner, _ := o.Of(ev.Inode, ev.SocketUID)
	if owner == nil || mayHaveActor(ev) && owner.PID == ev.Task.PID {
		return
	}
	ev.Owner = owner
}

// resolveHolders sets the processes that still hold a socket of which a descriptor was closed. An earlier scan may have
// found that descriptor, so this needs another scan.
func (o *Owners) resolveHolders(ev *events.Event) {
	o.collect(0)
	if o.scanning != nil || o.now().Before(o.notUntil) {
		return
	}
	o.scan(ev.Inode)
	o.collect(o.timeout)
	if ev.Searched = o.scanning == nil; !ev.Searched {
		return
	}
	owner, others := o.Of(ev.Inode, ev.SocketUID)
	ev.Owner, ev.OtherHolders = owner, uint32(others)
}

// needsOwner reports whether a segment, a timer or the caller of SOCK_DESTROY caused the event.
func needsOwner(ev *events.Event) bool {
	switch ev.Kind {
	case events.KindDone, events.KindReply, events.KindPeerFIN, events.KindAbort:
		return true
	case events.KindReset:
		return ev.Listener == 0 && !ev.Flags.Has(events.InReportedCall)
	}
	return false
}

// mayHaveActor reports whether the event's task may have caused it, and did not only hold the socket lock while the
// kernel processed a segment.
func mayHaveActor(ev *events.Event) bool {
	return ev.Kind == events.KindAbort || ev.Kind == events.KindReset && ev.Flags.Has(events.TaskContext)
}

// Of returns the process that holds the socket with this inode, the one with the lowest id if there are several, and
// the number of others. It returns nil if the process is unknown. It uses uid if /proc does not show one.
//
// It does not look at a thread with a descriptor table of its own, unless the first thread of the process has ended.
func (o *Owners) Of(inode uint64, uid uint32) (task *events.Task, others int) {
	o.collect(0)
	now := o.now()
	h, ok := o.known(inode, now)
	if !ok && o.scanning == nil && !now.Before(o.notUntil) {
		o.scan(inode)
		o.collect(o.timeout)
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

// scan starts a scan. collect receives its result.
func (o *Owners) scan(inode uint64) {
	done := make(chan scan, 1)
	go func() {
		runtime.LockOSThread() // whose processor time is read
		defer runtime.UnlockOSThread()
		begin, begun, used := time.Now(), o.sinceUp(), clock(unix.CLOCK_THREAD_CPUTIME_ID)
		found := holdersIn(o.root, inode)
		done <- scan{found, begun, time.Since(begin), clock(unix.CLOCK_THREAD_CPUTIME_ID) - used}
	}()
	o.scanning = done
}

// collect receives the result of the running scan, if there is one and it ends in time.
func (o *Owners) collect(wait time.Duration) {
	if o.scanning == nil {
		return
	}
	select {
	case s := <-o.scanning:
		o.keep(s)
		return
	default:
	}
	if wait <= 0 {
		return
	}
	select {
	case s := <-o.scanning:
		o.keep(s)
	case <-time.After(wait):
	}
}

func sinceUp() time.Duration { return clock(unix.CLOCK_BOOTTIME) }

func clock(id int32) time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(id, &now); err != nil {
		return 0 // only a bad clock id or pointer fails
	}
	return time.Duration(now.Nano())
}

func (o *Owners) keep(s scan) {
	o.scanning = nil
	o.holders, o.tasks = s.holders, map[uint32]*events.Task{}
	o.begun, o.scanned = s.begun, o.now()
	o.notUntil = o.scanned.Add(max(scanEvery, scanShare*s.cpu, waitShare*s.took))
}
