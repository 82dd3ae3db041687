// Package classify concludes from events which path an ending took and why. It
// is pure: the same events give the same verdicts, live or replayed; it knows
// no kernel, no /proc and no clock but that of the events.
package classify

import (
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Held events: where a second fact about the same ending may follow, the
// verdict waits for it. Where the return of a close is not seen (tracepoint
// mode), a RST may follow its FIN; a timer sends its RST before it ends the
// socket; data after close ends the socket before it is answered with RST; and
// what reset us may be another end on this host, whose call has not returned.
const (
	// afterthought is how long the second fact may take.
	afterthought = 20 * time.Millisecond
	// itsEnd is how long after its RST a socket may end, peersCall how long the
	// call may take that reset us, until it is told.
	itsEnd    = 80 * time.Millisecond
	peersCall = itsEnd
	// lingerSlack is what a close that waits under SO_LINGER may take beyond
	// its time until the task has run again.
	lingerSlack = 250 * time.Millisecond
	// maxHeld bounds memory: about 4 MB. The oldest is released first.
	maxHeld = 8192
)

// Classifier turns a stream of events into endings. Not for concurrent use.
type Classifier struct {
	header    events.Header
	held      waiting
	story     story
	closeWait closeWait
	// Unexplained counts events that no rule of this version covers.
	Unexplained uint64
	// Complete, if set, is called with a FIN received before it is told. Most FINs
	// never are, so that a look-up which takes its time is spared for them. It may
	// set what describes the event, and nothing that the verdict rests on.
	Complete func(*events.Event)

	// What is used again for each event, so that none needs an allocation.
	current fact
	words   phrase
	ending  events.Ending
	made    repeated
}

// New makes a classifier for the events under a header.
func New(h events.Header) *Classifier {
	return &Classifier{
		header: h, held: newWaiting(), story: newStory(), made: newRepeated(),
		closeWait: closeWait{fins: newWaiting(), patience: h.CloseWaitNS},
	}
}

// Push takes the next event and emits the endings it completes. The ending is
// overwritten by the next one; what it points to stays.
func (c *Classifier) Push(ev *events.Event, emit func(*events.Ending)) {
	c.Advance(ev.MonoNS, emit)
	c.answered(ev)
	switch ev.Kind {
	case events.KindShared:
		if c.fact(ev).bySyscall() == events.TriggerExecve {
			return // what close-on-exec is for
		}
		c.conclude(ev, emit)
	case events.KindWaitOver:
		c.waitOver(ev)
	case events.KindReset:
		c.reset(ev, emit)
	case events.KindDone:
		c.done(ev, emit)
	case events.KindReply:
		// Whatever closed this connection has nothing more to send.
		c.release(c.held.all(func(h *held) bool { return h.event.Kind == events.KindClose && sameEnd(&h.event, ev) }), emit)
		if d := c.find(ev, events.KindDone); d != nil {
			// The segment ended the socket and is now answered: one ending.
			ev.Before, ev.SockErr = d.event.Before, d.event.SockErr
			ev.Owner, ev.Inode, ev.PeerFINAgoNS = d.event.Owner, d.event.Inode, d.event.PeerFINAgoNS
			c.held.drop(d)
		}
		c.conclude(ev, emit)
	default:
		// A call on a socket comes after whatever ended it.
		c.release(c.held.ofSocket(ev.Sock), emit)
		if p := c.story.closed(ev); p != nil && p.path == AbortMPTCP {
			return // MPTCP resets the subflow first and then takes it down
		}
		if ev.Kind == events.KindClose && c.mayGrow(ev) {
			c.hold(ev, c.patience(ev), emit)
			return
		}
		if ev.Kind == events.KindPeerFIN {
			c.peerFIN(ev, emit)
			return
		}
		c.conclude(ev, emit)
	}
}

// reset takes a RST outside of a call that is open.
func (c *Classifier) reset(ev *events.Event, emit func(*events.Ending)) {
	ev.After = events.Close // at once, if it is not there already
	switch {
	case ev.Flags.Has(events.InReportedCall):
		c.afterthought(ev, emit)
	case ev.Listener != 0:
		c.conclude(ev, emit)
	default:
		c.hold(ev, itsEnd, emit) // for the tcp_done that comes with it
	}
}

// done takes the end of a socket by a segment or a timer.
func (c *Classifier) done(ev *events.Event, emit func(*events.Ending)) {
	if r := c.find(ev, events.KindReset); r != nil {
		c.held.drop(r)
		r.event.SockErr = ev.SockErr
		c.conclude(&r.event, emit)
		return
	}
	c.hold(ev, peersCall, emit) // for the RST in reply, or the end that reset us
}

// find returns what is held of a kind for the socket of an event, or nil.
func (c *Classifier) find(ev *events.Event, kind events.Kind) *held {
	for h := range c.held.of(ev.Sock) {
		if h.event.Kind == kind && sameSocket(&h.event, ev) {
			return h
		}
	}
	return nil
}

// hold keeps an event for what may follow.
func (c *Classifier) hold(ev *events.Event, patience time.Duration, emit func(*events.Ending)) {
	if c.held.len() == maxHeld {
		oldest := c.held.oldest()
		c.held.drop(oldest)
		c.conclude(&oldest.event, emit)
	}
	c.held.add(ev, ev.MonoNS+uint64(patience))
}

// Advance emits what was held until before a time of the event clock
// (CLOCK_MONOTONIC, nanoseconds). Live, it is called with the present, so that
// a verdict does not wait for the next event.
func (c *Classifier) Advance(monoNS uint64, emit func(*events.Ending)) {
	c.release(c.held.due(monoNS), emit)
	c.lateAnswers(monoNS, emit)
}

// Flush emits all that is held: the stream is over.
func (c *Classifier) Flush(emit func(*events.Ending)) {
	c.release(c.held.all(func(*held) bool { return true }), emit)
	c.flushCloseWait(emit)
}

// release concludes what was held. What a RST did to the other end is told after
// the RST, which explains it.
func (c *Classifier) release(due []*held, emit func(*events.Ending)) {
	if len(due) == 0 {
		return
	}
	for _, done := range []bool{false, true} {
		for _, h := range due {
			if (h.event.Kind == events.KindDone) == done {
				c.conclude(&h.event, emit)
			}
		}
	}
}

// mayGrow: the record was made at the first change of state, and the call goes
// on.
func (c *Classifier) mayGrow(ev *events.Event) bool {
	if !ev.Flags.Has(events.ReturnUnseen) {
		return false
	}
	f := c.fact(ev)
	return !f.sent(events.SentRST) &&
		(f.sent(events.SentFIN) || f.afterShutdown()) && ev.After != events.Close
}

// patience is how long to wait for more about a held close.
func (c *Classifier) patience(ev *events.Event) time.Duration {
	f := c.fact(ev)
	if f.lingered() && f.unacknowledged() {
		return f.duration(f.timeout()) + lingerSlack
	}
	return afterthought
}

// waitOver ends the wait of a close under SO_LINGER: the FIN was acknowledged,
// or a signal came.
func (c *Classifier) waitOver(ev *events.Event) {
	for h := range c.held.of(ev.Sock) {
		if !h.event.Flags.Has(events.LingerOn) {
			continue
		}
		h.event.DurationNS = ev.MonoNS - h.event.MonoNS
		h.event.Signal = ev.Signal
		if ev.Signal == 0 {
			h.event.AtReturn, h.event.OutputLeft = ev.After, ev.OutputLeft
		}
		c.held.wait(h, ev.MonoNS+uint64(afterthought))
	}
}

// afterthought joins a RST to the close that sent a FIN before it.
func (c *Classifier) afterthought(ev *events.Event, emit func(*events.Ending)) {
	for h := range c.held.of(ev.Sock) {
		if grown := &h.event; grown.Task.TID == ev.Task.TID {
			grown.Flags |= events.SentRST
			grown.KernelReason, grown.AtRST, grown.After = ev.KernelReason, ev.AtRST, events.Close
			c.held.drop(h)
			c.conclude(grown, emit)
			return
		}
	}
	c.conclude(ev, emit) // its close was told already: on a slow machine a RST takes its time
}

// fact is valid until the next one.
func (c *Classifier) fact(ev *events.Event) *fact {
	c.current = fact{Event: ev, hz: c.header.HZ, missing: c.header.Missing}
	return &c.current
}

// conclude finds the rule for an event and emits the ending.
func (c *Classifier) conclude(ev *events.Event, emit func(*events.Ending)) {
	f := c.fact(ev)
	if f.lingered() && f.unacknowledged() && f.waited() == 0 {
		// Nothing ended the wait in time, so time did.
		f.WaitedJiffies = f.timeout()
	}
	f.restoreError()
	c.remember(f)
	list := c.rulesFor(f)
	for i := range list {
		r := &list[i]
		f.byState = false
		if r.when(f) {
			e := c.endingOf(f, r)
			c.story.tell(f, e)
			emit(e)
			return
		}
	}
	c.Unexplained++
}

// rulesFor gives the rules for the kind of an event. In tracepoint mode one
// change of state stands for several calls, which the system call tells apart.
func (c *Classifier) rulesFor(f *fact) []rule {
	if f.Kind == events.KindClose {
		switch {
		case f.Before == events.Close:
			return closedRules
		case f.Before == events.Listen:
			return closeListenRules
		case f.sent(events.SentRST):
			return closeResetRules
		case f.lingered():
			return closeLingerRules
		}
		return closeRules
	}
	if f.Kind == events.KindDisconnect && f.Syscall == "shutdown" {
		return shutdownRules // of a listener or while connecting; inet_shutdown is missing
	}
	if f.Kind == events.KindShutdown && f.sent(events.ReturnUnseen|events.Disconnected) {
		switch t, _ := f.trigger(); t {
		case events.TriggerConnect:
			return disconnectRules
		case events.TriggerLastReference: // sendmsg(2) to netlink
			return abortRules
		}
	}
	if int(f.Kind) >= len(rules) {
		return nil // of a later version
	}
	return rules[f.Kind]
}

// remember finds what happened before: to the socket or, unless a new connection
// begins, to one of the same addresses.
func (c *Classifier) remember(f *fact) {
	switch {
	case f.Before == events.Close && (f.Kind == events.KindClose || f.Kind == events.KindEPIPE):
		f.past = c.story.closed(f.Event)
	case f.Kind == events.KindClose:
		f.past = c.story.letGo(f.Event)
	case f.Kind == events.KindReply && f.SegmentFlags&(thSYN|thACK) != thSYN:
		f.past = c.story.earlier(f.Event)
	case f.Kind == events.KindReset && f.Listener == 0:
		f.past = c.story.ofThis(f)
	case f.Kind == events.KindDone:
		f.past = c.story.ofThis(f)
		if f.wasReset() {
			f.peer = c.story.peerReset(f.Event)
		}
	}
}

func (c *Classifier) endingOf(f *fact, r *rule) *events.Ending {
	c.words = r.why(c.words[:0], f)
	e := &c.ending
	// Field by field: a literal would be made elsewhere first, and copied.
	*e = events.Ending{}
	e.Time, e.MonoNS = time.Unix(0, int64(f.MonoNS)+c.header.WallOffsetNS), f.MonoNS
	e.Path, e.Title, e.Cause, e.Doubt = r.path, r.title, c.made.text(c.words), c.doubt(f, r)
	e.Local, e.Remote, e.Netns, e.CgroupID = f.Local, f.Remote, f.Netns, f.CgroupID
	e.Before, e.After, e.Owner = f.Before, f.After, f.Owner
	e.FIN, e.RST, e.KernelReason = f.sent(events.SentFIN), f.sent(events.SentRST), f.KernelReason
	f.prove(&e.Evidence)
	e.DurationNS = f.DurationNS
	e.Earlier, e.Peer, e.Harmless = c.made.past(f.past, f.Event), c.made.past(f.peer, f.Event), f.harmless()
	if f.Kind == events.KindClose && f.Remote.Port() == 0 && f.past != nil {
		// tcp_disconnect wiped the addresses; this is what they were.
		e.Local, e.Remote = f.past.local, f.past.remote
	}
	if f.beforeUnseen() {
		e.Before = events.StateUnknown
	}
	c.attribute(f, r, e)
	if e.Actor == nil && e.Owner == nil && f.past != nil && f.sent(events.Orphan) {
		e.Owner = f.past.actor // it has no owner any more; this one was
	}
	return e
}

// attribute says whose call it was and what triggered it. A timer and a
// segment are nobody's call, whatever task they ran on.
func (c *Classifier) attribute(f *fact, r *rule, e *events.Ending) {
	e.Trigger, e.Signal = f.trigger()
	if r.by != "" {
		e.Trigger, e.Signal = r.by, 0
	}
	if f.Signal != 0 {
		e.Signal = int(f.Signal)
	}
	if e.Trigger == events.TriggerLastReference || e.Trigger == events.TriggerWrite {
		e.Syscall = f.Syscall
	}
	switch e.Trigger {
	case events.TriggerSegment, events.TriggerTimer:
		e.CgroupID = 0
	default:
		if f.sent(events.TaskContext) {
			e.Actor, e.Stack = c.made.task(&f.Task), f.CallStack
		}
	}
	place(f.Event, e)
}

// place says in which cgroups that was.
func place(ev *events.Event, e *events.Ending) {
	e.Cgroup, e.ContainerNames = ev.SocketCgroupPath(), ev.ContainerNames
	switch {
	case e.Actor == nil:
	case ev.SocketCgroupID == 0:
		e.Cgroup = ev.Cgroup
	case ev.SocketCgroupID != ev.CgroupID:
		e.ActorCgroup = ev.Cgroup
	}
}

// harmless: a RST that takes nothing from anybody. Both sides had sent their
// FIN, or the segment that is answered carried no data and this side had
// closed in good order.
func (f *fact) harmless() bool {
	switch f.Kind {
	case events.KindDone:
		return f.SockErr == econnreset && f.before(events.LastAck, events.Closing) && f.UnsentBytes+f.UnackedBytes == 0
	case events.KindReply:
		return f.SegmentBytes == 0 && f.past != nil && f.past.fin
	}
	return false
}

// doubt says why a verdict is inferred, "" if it was observed.
func (c *Classifier) doubt(f *fact, r *rule) string {
	if r.doubt != "" {
		return r.doubt
	}
	if doubt := c.unproven(f, r.path); doubt != "" {
		return doubt
	}
	switch {
	case r.path == CloseLingerTimeout && f.sent(events.ReturnUnseen):
		return "the return of close(2) cannot be seen in tracepoint mode; no ACK and no signal came in time"
	case f.Kind == events.KindClose && !f.sent(events.UnderLock) && !f.sent(events.ReturnUnseen):
		return "the evidence was read before the socket lock was taken"
	case f.byState:
		return "the kernel's stack could not be read, which takes CAP_SYSLOG; concluded from the state of the socket"
	case f.afterItsEnd(r.path) && f.past != nil:
		return f.past.doubt
	}
	return ""
}

// prove sets the evidence, which was zero.
func (f *fact) prove(v *events.Evidence) {
	v.UnreadBytes, v.UnsentBytes, v.UnackedBytes = f.UnreadBytes, f.UnsentBytes, f.UnackedBytes
	v.BytesSent, v.BytesReceived = f.BytesSent, f.BytesReceived
	v.FINUnsent = f.UnsentLeft > 0 && f.sent(events.SentFIN)
	v.LingerOn, v.Linger, v.Linger2 = f.sent(events.LingerOn), f.duration(f.LingerJiffies), f.linger2()
	v.Waited = f.lingerWait()
	v.SockErr, v.Errno, v.PeerFIN = int(f.SockErr), int(max(0, -f.Result)), f.sent(events.PeerFIN)
	v.PeerFINAgo = time.Duration(f.PeerFINAgoNS)
	v.Children, v.ChildrenReset, v.PendingRequests = f.Children, f.ChildrenReset, f.PendingRequests
	v.SegmentBytes, v.UserTimeout = f.SegmentBytes, time.Duration(f.UserTimeoutMS)*time.Millisecond
	v.Probes, v.Retransmits = uint32(f.Probes), uint32(f.Retransmits)
	v.References, v.OtherHolders = f.References, f.OtherHolders
	v.SIGPIPE = f.Kind == events.KindEPIPE && f.How != 0
	v.MPTCP = f.sent(events.MPTCP)
}

// lingerWait is how long SO_LINGER blocked the close.
func (f *fact) lingerWait() time.Duration {
	if f.Kind != events.KindClose || !f.lingered() {
		return 0
	}
	return f.waited()
}

// PathInfo describes a path.
type PathInfo struct {
	Path  events.Path
	Title string
}

// Paths lists all paths, each once, in the order of the rules.
func Paths() []PathInfo {
	var paths []PathInfo
	seen := map[events.Path]bool{}
	add := func(list []rule) {
		for _, r := range list {
			if !seen[r.path] {
				seen[r.path] = true
				paths = append(paths, PathInfo{r.path, r.title})
			}
		}
	}
	add(closeListenRules)
	add(closeResetRules)
	add(closeLingerRules)
	add(closeRules)
	add(closedRules)
	for kind := events.KindShutdown; kind.Valid(); kind++ {
		add(rules[kind])
	}
	return paths
}
