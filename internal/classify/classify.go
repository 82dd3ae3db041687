// Package classify concludes from events how and why connections ended. It is
// pure: the same events give the same endings, live or replayed. It does not use
// the kernel, /proc or any clock but that of the events.
//
// An event takes four steps (see [Classifier.Push]): pending events whose
// deadline has passed are concluded; a FIN that the event answers is added to it;
// it is joined to the other event of its ending, or waits for it; and the first
// rule of the table that applies decides. The table is in table.go. Its rules are
// in the order in which the kernel decides.
package classify

import "github.com/closetrace/closetrace/internal/events"

const (
	// maxJoins bounds the events that wait for a second one: about 4 MB. If more
	// would wait, the one with the next deadline is concluded at once.
	maxJoins = 8192
	// maxUnanswered bounds the FINs that wait for an answer: about 3 MB. If more
	// would wait, the one with the next deadline is reported at once.
	maxUnanswered = 4096
)

// Classifier turns a stream of events into endings. It is not safe for concurrent
// use.
type Classifier struct {
	header  events.Header
	joins   pending // closes, resets and ends of sockets that a second event may complete
	fins    pending // FINs received that this side has not answered yet
	history history
	notes   notes
	losses  losses
	// repliesLeftOut is for the next RST in reply.
	repliesLeftOut uint64
	// Unexplained counts the events that no rule applies to.
	Unexplained uint64
	// Complete, if set, is called with an event that is about to be concluded and has
	// no owner, and may set its owner; also some time before, while a later call may
	// still name another. No rule depends on the owner; a cause may name it. It is looked
	// up so late because that is slow, most FINs are not reported, and a later call names
	// most owners.
	Complete func(*events.Event)
	// Notes, if set, yields the ordinary closes that the kernel side has noted and not reported since the last call. It
	// returns since when it has yielded all of them (CLOCK_MONOTONIC); 0: all that there were.
	Notes func(func(*events.Note)) (since uint64)
	// PeerFIN, if set, returns when the FIN was received that an event answers, where the kernel side has noted it.
	PeerFIN func(*events.Event) (monoNS uint64, ok bool)

	// What is reused for each event, so that none needs an allocation.
	fact   fact
	phrase phrase
	ending *events.Ending
	causes interner[string, string]
	tasks  interner[uint32, *events.Task]
	pasts  []events.Past // not used yet

	recentCauses recentCauses
	recentTask   *events.Task
}

// New returns a classifier for the events under a header.
func New(h events.Header) *Classifier {
	return &Classifier{
		header: h, ending: new(events.Ending),
		joins: newPending(maxJoins), fins: newPending(maxUnanswered), history: newHistory(h),
		causes: interner[string, string]{}, tasks: interner[uint32, *events.Task]{},
	}
}

// Reuse makes the classifier build its next ending in e, so that the one that it is
// emitting stays valid.
func (c *Classifier) Reuse(e *events.Ending) { c.ending = e }

// SetWallOffset sets what is added from now on to the time of an event for the wall time of its ending, in nanoseconds.
// Until then it is that of the header.
func (c *Classifier) SetWallOffset(ns int64) { c.header.WallOffsetNS = ns }

// Push takes the next event and emits the endings that it completes. An ending is
// valid during emit only, unless [Classifier.Reuse] is called meanwhile; what it
// points to stays valid.
func (c *Classifier) Push(ev *events.Event, emit func(*events.Ending)) {
	switch {
	case ev.Kind == events.KindLoss:
		c.lose(ev)
		return
	case ev.Kind == events.KindAbort && ev.Result == -enoent:
		return // it waited for the lock of a socket that something else ended meanwhile (tcp_abort, from 6.11 on)
	}
	c.expire(ev.MonoNS, emit)
	c.answer(ev)
	c.releaseOrphan(ev, emit)
	if ev = c.join(ev, emit); ev != nil {
		c.conclude(ev, emit)
	}
}

// Advance emits the endings whose deadline is before a time of the event clock
// (CLOCK_MONOTONIC, nanoseconds). Live, it is called with the present, so that a
// verdict does not wait for the next event.
func (c *Classifier) Advance(monoNS uint64, emit func(*events.Ending)) { c.expire(monoNS, emit) }

// DueBefore reports whether [Classifier.Advance] would have something to do before a time of the event clock, without
// another event.
func (c *Classifier) DueBefore(monoNS uint64) bool {
	return c.joins.isDue(monoNS) || c.fins.isDue(monoNS)
}

// Flush emits all pending endings at the end of the stream.
func (c *Classifier) Flush(emit func(*events.Ending)) {
	c.release(c.joins.takeAll(), emit)
	c.release(c.fins.takeAll(), emit)
}

// expire concludes the events whose deadline is before a time.
func (c *Classifier) expire(monoNS uint64, emit func(*events.Ending)) {
	if c.joins.isDue(monoNS) {
		c.release(c.joins.takeDue(monoNS, c.complete), emit)
	}
	if !c.fins.isDue(monoNS) {
		return
	}
	unanswered := c.fins.takeDue(monoNS, c.complete)
	for _, fin := range unanswered {
		fin.event.PeerFINAgoNS = c.header.CloseWaitNS
	}
	c.release(unanswered, emit)
}

// release concludes events that were pending. The end of a socket comes after the
// RST of another one, which may explain it, and before the calls that follow it.
func (c *Classifier) release(taken []*waiting, emit func(*events.Ending)) {
	if len(taken) == 0 {
		return
	}
	for turn := range turns {
		for _, w := range taken {
			if w.turn() == turn {
				c.conclude(&w.event, emit)
			}
		}
	}
}

// complete lets the owner of an event be looked up that lacks one.
func (c *Classifier) complete(ev *events.Event) {
	if c.Complete != nil && lacksOwner(ev) {
		c.Complete(ev)
	}
}

// factOf returns what is known of an event, with what the kernel side could not see.
func (c *Classifier) factOf(ev *events.Event) fact {
	f := fact{Event: ev, hz: c.header.HZ, missing: c.header.Missing, losses: c.losses}
	f.restore()
	return f
}

// conclude emits the ending of an event.
func (c *Classifier) conclude(ev *events.Event, emit func(*events.Ending)) {
	c.complete(ev)
	f := &c.fact
	*f = c.factOf(ev)
	noted := c.Notes != nil && c.restsOnClose(f)
	if noted {
		c.readNotes(f.Event)
	}
	c.history.explain(f)
	c.explainByPending(f)
	c.peerByPending(f)
	f.notesLost = noted && f.past == nil && c.history.notedSince > 0
	r, inferred := decide(f)
	if r == nil {
		if !endedInOrder(f) {
			c.Unexplained++
		}
		return
	}
	e := c.conclusion(f, r, inferred)
	c.history.add(f, e)
	c.endNoted(f.Event)
	emit(e)
}
