package classify

import (
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Some endings are reported in two events. In tracepoint mode, where the return
// of a close is not seen, a RST may follow its FIN. A timer sends its RST before
// it ends the socket. A segment ends the socket before it is answered with RST.
// The RST that ended a socket may come from another end on this host, whose call
// has not returned yet. The first event waits for the second. And whose socket a
// segment or a timer ended, the next call on it shows: see owner.go.
const (
	// joinWindow is how long a close waits for its RST.
	joinWindow = 20 * time.Millisecond
	// endWindow is how long a RST waits for the end of its socket.
	endWindow = 80 * time.Millisecond
	// recordWindow is how long an event waits for the record of another that explains it and was written later, on
	// another CPU: a RST in reply for the close that is over, and a close for the end of its socket. What writes it may
	// be preempted meanwhile: on a busy CPU for more than 20 ms.
	recordWindow = 100 * time.Millisecond
	// lingerSlack is how much longer than its SO_LINGER time a close may take until
	// its task runs again.
	lingerSlack = 250 * time.Millisecond
)

// answer adds to the event that answers a FIN how long ago that FIN was received.
func (c *Classifier) answer(ev *events.Event) {
	if !answersFIN(ev) {
		return
	}
	if at, ok := c.history.takeFIN(ev); ok {
		ev.PeerFINAgoNS = max(ev.MonoNS, at) - at
	}
	if c.PeerFIN != nil && ev.Before == events.CloseWait {
		if at, ok := c.PeerFIN(ev); ok {
			ev.PeerFINAgoNS = ev.MonoNS - at
		}
	}
	for _, fin := range c.fins.takeSocket(ev) {
		if sameSocket(&fin.event, ev) {
			ev.PeerFINAgoNS = max(ev.MonoNS, fin.event.MonoNS) - fin.event.MonoNS
		}
	}
}

// answersFIN reports whether an event takes its socket out of CLOSE_WAIT.
func answersFIN(ev *events.Event) bool {
	switch ev.Kind {
	case events.KindShutdown:
		return ev.Flags&(events.SentFIN|events.SentRST) != 0
	case events.KindClose, events.KindFIN, events.KindDisconnect:
		return true
	case events.KindAbort, events.KindDone, events.KindReset, events.KindReply:
		return !lingers(&fact{Event: ev}) // else the close that waits has answered it
	}
	return false
}

// join returns the event to conclude from now: ev, or the pending event that ev
// completes. It returns nil if ev waits, or changes only how long another waits,
// or ends nothing.
func (c *Classifier) join(ev *events.Event, emit func(*events.Ending)) *events.Event {
	switch ev.Kind {
	case events.KindWaitOver:
		return c.joinWaitOver(ev)
	case events.KindReset:
		return c.joinReset(ev, emit)
	case events.KindDone:
		return c.joinDone(ev, emit)
	case events.KindReply:
		return c.joinReply(ev, emit)
	case events.KindPeerFIN:
		return c.joinPeerFIN(ev, emit)
	case events.KindShared:
		c.release(c.joins.takeReplaced(ev), emit) // else the close of an earlier socket would forget this
		if f := (fact{Event: ev}); f.bySyscall() == events.TriggerExecve {
			return nil // close-on-exec leaves sockets open on purpose
		}
		return ev
	}
	return c.joinCall(ev, emit)
}

// releaseOrphan concludes the end of an orphan that had the addresses of an event's connection before it, and first the
// close that left it: what that connection does takes the place of that close, which explains the end.
func (c *Classifier) releaseOrphan(ev *events.Event, emit func(*events.Ending)) {
	c.release(c.joins.takeMatching(byEnd, ev, func(w *waiting) bool {
		return ofOrphan(&w.event) && w.event.MonoNS < ev.MonoNS && sameEnd(&w.event, ev) &&
			!identityOf(&w.event).mayBe(identityOf(ev))
	}), emit)
}

// ofOrphan reports whether a pending event is the end of an orphan, or the close that left it.
func ofOrphan(ev *events.Event) bool {
	if ev.Kind == events.KindClose {
		return ev.Before != events.Close
	}
	return endsConnection(ev.Kind) && ev.Flags.Has(events.Orphan)
}

// joinCall handles a call on a socket.
func (c *Classifier) joinCall(ev *events.Event, emit func(*events.Ending)) *events.Event {
	if !c.joins.empty() { // mostly it is, by fentry and kprobe
		c.nameOwner(ev)
		if end := c.follows(ev); end != nil {
			if end.event.Flags.Has(events.EndedInCall) && ev.MonoNS <= end.event.MonoNS {
				return ev // a segment ended the socket during this call
			}
			return c.waitBehind(end, ev, emit)
		}
		c.release(c.joins.takeSocket(ev), emit) // comes before this call
	}
	end := c.history.endOf(ev)
	if end != nil && end.path == events.AbortMPTCP && end.identity.mayBe(identityOf(ev)) {
		return nil // MPTCP resets a subflow and then takes it down
	}
	if f := (fact{Event: ev, hz: c.header.HZ}); ev.Kind == events.KindClose && f.mayContinue() {
		return c.wait(&c.joins, ev, f.window(), emit)
	}
	if end == nil && closesEnded(ev) {
		return c.wait(&c.joins, ev, recordWindow, emit)
	}
	return c.awaitOwner(ev, emit)
}

// closesEnded reports whether a call closes a connection that something else has ended.
func closesEnded(ev *events.Event) bool {
	return ev.Kind == events.KindClose && ev.Before == events.Close && ev.Remote.Port() != 0
}

// joinPeerFIN handles a FIN received.
func (c *Classifier) joinPeerFIN(ev *events.Event, emit func(*events.Ending)) *events.Event {
	c.release(c.joins.takeSocket(ev), emit)
	if ev.After != events.CloseWait {
		return ev
	}
	// A FIN of an earlier socket at this address: that one was closed unseen.
	c.history.fins.forget(ev.Sock)
	c.fins.takeSocket(ev)
	if c.header.CloseWaitNS == 0 {
		return ev
	}
	return c.wait(&c.fins, ev, time.Duration(c.header.CloseWaitNS), emit)
}

// mayContinue reports whether a close was reported at its first change of state,
// and a RST may follow.
func (f *fact) mayContinue() bool {
	return f.sent(events.ReturnUnseen) && !f.sent(events.SentRST) &&
		(f.sent(events.SentFIN) || f.afterShutdown()) && f.After != events.Close
}

// window returns how long a close waits for more.
func (f *fact) window() time.Duration {
	if f.lingered() && f.unacknowledged() {
		return f.duration(f.timeout()) + lingerSlack
	}
	return joinWindow
}

// joinWaitOver ends the wait of a close under SO_LINGER: its FIN was
// acknowledged, the connection ended, or a signal came. A RST may still follow.
func (c *Classifier) joinWaitOver(ev *events.Event) *events.Event {
	for w := c.joins.first(byAddress, ev); w != nil; w = w.next[byAddress] {
		if w.event.Kind != events.KindClose || w.event.Sock != ev.Sock || !w.event.Flags.Has(events.LingerOn) {
			continue
		}
		w.event.DurationNS = ev.MonoNS - w.event.MonoNS
		w.event.Signal = ev.Signal
		if ev.Signal == 0 {
			w.event.AtReturn, w.event.OutputLeft = ev.After, ev.OutputLeft
		}
		c.joins.postpone(w, ev.MonoNS+uint64(joinWindow))
	}
	return nil
}

// joinReset handles a RST outside of an open call.
func (c *Classifier) joinReset(ev *events.Event, emit func(*events.Ending)) *events.Event {
	ev.After = events.Close // the kernel puts the socket into CLOSE with the RST
	switch {
	case ev.Flags.Has(events.InReportedCall):
		return c.joinClose(ev)
	case ev.Listener != 0:
		return ev
	}
	c.release(c.joins.takeReplaced(ev), emit)
	// The close of this end has returned, unless it lingers, and comes before the RST.
	c.release(c.joins.takeCloses(ev, func(w *waiting) bool {
		f := fact{Event: &w.event, hz: c.header.HZ}
		return f.lingered() && f.unacknowledged()
	}), emit)
	return c.wait(&c.joins, ev, endWindow, emit)
}

// joinClose adds a RST to the close that sent a FIN before it. Where that close
// was reported already, the RST is an ending by itself.
func (c *Classifier) joinClose(ev *events.Event) *events.Event {
	for w := c.joins.first(byAddress, ev); w != nil; w = w.next[byAddress] {
		if w.event.Kind == events.KindClose && w.event.Sock == ev.Sock && w.event.Task.TID == ev.Task.TID {
			c.joins.remove(w)
			w.event.Flags |= events.SentRST
			w.event.KernelReason, w.event.AtRST, w.event.After = ev.KernelReason, ev.AtRST, events.Close
			return &w.event
		}
	}
	return ev
}

// joinDone handles the end of a socket by a segment or a timer: it completes the
// RST of a timer, or waits.
func (c *Classifier) joinDone(ev *events.Event, emit func(*events.Ending)) *events.Event {
	c.nameCaller(ev)
	c.release(c.joins.takeReplaced(ev), emit) // a call that waits behind its own end, not behind this one
	if c.joinLateEnd(ev, emit) {
		return nil
	}
	if rst := c.joins.find(ev, events.KindReset); rst != nil {
		c.joins.remove(rst)
		rst.event.SockErr = ev.SockErr
		return c.awaitOwner(&rst.event, emit)
	}
	return c.waitForOwner(ev, emit)
}

// joinLateEnd handles the end of a socket that is recorded after the close of it, which waits for it: the close names
// the owner, and comes after the end. It reports whether such a close waited.
func (c *Classifier) joinLateEnd(end *events.Event, emit func(*events.Ending)) bool {
	closing := c.joins.find(end, events.KindClose)
	if closing == nil || !closesEnded(&closing.event) || closing.event.MonoNS < end.MonoNS {
		return false
	}
	call := closing.event
	c.joins.remove(closing)
	c.waitForOwner(end, emit)
	if ev := c.joinCall(&call, emit); ev != nil {
		c.conclude(ev, emit)
	}
	return true
}

// joinReply handles a RST in reply to a segment. The close of this end comes
// before it. If the segment ended the socket, both are one ending.
func (c *Classifier) joinReply(ev *events.Event, emit func(*events.Ending)) *events.Event {
	c.nameCaller(ev)
	c.release(c.joins.takeReplaced(ev), emit)
	c.release(c.joins.takeCloses(ev, func(*waiting) bool { return false }), emit)
	if done := c.joins.find(ev, events.KindDone); done != nil {
		c.joins.remove(done)
		ev.Before, ev.SockErr = done.event.Before, done.event.SockErr
		ev.Owner, ev.OwnerBy = done.event.Owner, done.event.OwnerBy
		ev.Inode, ev.PeerFINAgoNS = done.event.Inode, done.event.PeerFINAgoNS
	}
	if c.awaitsRecord(ev) {
		return c.wait(&c.joins, ev, recordWindow, emit)
	}
	return c.awaitOwner(ev, emit)
}

// awaitsRecord reports whether a RST answers a segment of a connection that has no socket and is not known.
func (c *Classifier) awaitsRecord(ev *events.Event) bool {
	switch ev.Before {
	case events.StateUnknown, events.Listen, events.TimeWait:
	default:
		return false
	}
	if beginsConnection(&fact{Event: ev}) {
		return false
	}
	if c.Notes != nil {
		c.readNotes(ev)
	}
	return c.history.earlier(ev) == nil && c.pendingEnd(ev) == nil
}

// explainByPending sets what ended the connection of a RST in reply, if that end still waits for the call that names
// its owner. It goes on waiting: a copy of it is decided.
func (c *Classifier) explainByPending(f *fact) {
	if f.Kind != events.KindReply || beginsConnection(f) {
		return
	}
	if p := c.pendingEnd(f.Event); p != nil {
		f.past = p
	}
}

// pendingEnd returns the end that waits of the connection of an event, or nil.
func (c *Classifier) pendingEnd(ev *events.Event) (end *past) {
	if c.joins.empty() {
		return nil
	}
	for w := c.joins.first(byEnd, ev); w != nil; w = w.next[byEnd] {
		if !endsConnection(w.event.Kind) || !sameEnd(&w.event, ev) {
			continue
		}
		if p := c.pastOf(w.event); p != nil && p.explains(ev) {
			end = p
		}
	}
	return end
}

// peerByPending sets the RST of the other end that reset a socket, if that ending still waits for the call that names
// its owner. The end of this socket waits as long, but the next socket at its address releases it.
func (c *Classifier) peerByPending(f *fact) {
	if f.Kind != events.KindDone || f.peer != nil || c.joins.empty() || !f.wasReset() {
		return
	}
	end := events.Event{Local: f.Remote, Remote: f.Local}
	for w := c.joins.first(byEnd, &end); w != nil; w = w.next[byEnd] {
		if w.event.Flags.Has(events.SentRST) && hasReset(&w.event, f.Event) {
			f.peer = c.pastOf(w.event)
		}
	}
}

// hasReset reports whether a RST reset the socket of an event, as peerReset finds it.
func hasReset(rst, ev *events.Event) bool {
	if !mayBeReset(ev, rst.Kind == events.KindReply) {
		return false
	}
	if rst.Kind == events.KindReply {
		end := receivedEnd(ev)
		return rst.SegmentAck != 0 && (rst.SegmentAck == end || rst.SegmentAck == beforeFIN(ev, end)) &&
			int32(ev.SndNxt-rst.SegmentSeq) >= 0
	}
	a, b := identityOf(rst), identityOf(ev)
	return a.sent != 0 && a.received != 0 && beside(a.sent, b.received) && (a.received == b.sent || a.received == b.sent+1)
}

// endsConnection reports whether events of a kind end a connection by themselves, without a call of its owner.
func endsConnection(kind events.Kind) bool {
	return kind == events.KindDone || kind == events.KindReset || kind == events.KindAbort
}

// pastOf returns what a pending event will be once it is concluded, or nil if no rule applies.
func (c *Classifier) pastOf(ev events.Event) *past {
	f := c.factOf(&ev)
	c.history.explain(&f)
	r, inferred := decide(&f)
	if r == nil {
		return nil
	}
	p := new(past)
	setPast(p, &f, c.conclusion(&f, r, inferred))
	return p
}

// wait lets an event wait for a second one. It returns nil.
func (c *Classifier) wait(
	p *pending, ev *events.Event, window time.Duration, emit func(*events.Ending),
) *events.Event {
	c.makeRoom(p, emit)
	p.add(ev, ev.MonoNS+uint64(window))
	return nil
}

// makeRoom concludes an event, if no other can wait.
func (c *Classifier) makeRoom(p *pending, emit func(*events.Ending)) {
	if p.full() {
		c.conclude(&p.takeSoonest().event, emit)
	}
}

// waitForOwner lets an event wait for the next call on its socket. It returns nil.
func (c *Classifier) waitForOwner(ev *events.Event, emit func(*events.Ending)) *events.Event {
	if w := c.joins.find(ev, events.KindClose); w != nil && ev.Owner == nil {
		ev.Owner, ev.OwnerBy = c.task(&w.event.Task), ownerByClose(ev, events.OwnerByEarlierCall)
	}
	c.makeRoom(&c.joins, emit)
	w := c.joins.add(ev, ev.MonoNS+uint64(ownerWindow))
	c.joins.remind(w, ev.MonoNS+uint64(lookUpAfter))
	return nil
}

// waitBehind lets a call wait until the end of its socket is concluded, which the
// verdict on the call rests on. It returns nil.
func (c *Classifier) waitBehind(end *waiting, ev *events.Event, emit func(*events.Ending)) *events.Event {
	deadline := end.last
	c.makeRoom(&c.joins, emit)
	c.joins.add(ev, deadline).behind = true
	return nil
}
