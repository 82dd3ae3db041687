package classify

import (
	"math"

	"github.com/closetrace/closetrace/internal/events"
)

// maxUnanswered bounds memory: about 3 MB. The one that has waited longest is
// told first.
const maxUnanswered = 4096

// told is until when a FIN waits that was told: for its answer alone.
const told = math.MaxUint64

// closeWait is the FINs received that this side has not answered, by a FIN or
// a RST of its own. Most are in no time, and then they are part of that story.
type closeWait struct {
	fins     waiting
	patience uint64 // nanoseconds; 0: each is told at once
}

// peerFIN takes a FIN that was received.
func (c *Classifier) peerFIN(ev *events.Event, emit func(*events.Ending)) {
	w := &c.closeWait
	if ev.After != events.CloseWait {
		c.tellFIN(ev, emit) // nobody waits for an answer
		return
	}
	w.fins.ofSocket(ev.Sock) // of a socket that had this address and has gone unseen
	if w.fins.len() == maxUnanswered {
		soonest := w.fins.soonest[0]
		w.fins.drop(soonest)
		c.tellUnanswered(soonest, emit)
	}
	if w.patience > 0 {
		w.fins.add(ev, ev.MonoNS+w.patience)
		return
	}
	w.fins.add(ev, told)
	c.tellFIN(ev, emit)
}

// tellFIN tells of a FIN that is not answered.
func (c *Classifier) tellFIN(ev *events.Event, emit func(*events.Ending)) {
	if c.Complete != nil {
		c.Complete(ev)
	}
	c.conclude(ev, emit)
}

// answered joins to the event that answers a FIN how long that took.
func (c *Classifier) answered(ev *events.Event) {
	w := &c.closeWait
	if w.fins.len() == 0 || !answersFIN(ev) {
		return
	}
	// At the same address, but of another socket: that one has gone unseen.
	for _, h := range w.fins.ofSocket(ev.Sock) {
		if sameSocket(&h.event, ev) {
			ev.PeerFINAgoNS = max(ev.MonoNS, h.event.MonoNS) - h.event.MonoNS
		}
	}
}

// answersFIN: what leaves CLOSE_WAIT.
func answersFIN(ev *events.Event) bool {
	switch ev.Kind {
	case events.KindShutdown:
		return ev.Flags&(events.SentFIN|events.SentRST) != 0
	case events.KindClose, events.KindFIN, events.KindDisconnect, events.KindAbort,
		events.KindDone, events.KindReset, events.KindReply:
		return true
	}
	return false
}

// lateAnswers tells the FINs that should have been answered before a time.
func (c *Classifier) lateAnswers(monoNS uint64, emit func(*events.Ending)) {
	soonest := &c.closeWait.fins.soonest
	for soonest.Len() > 0 && (*soonest)[0].until < monoNS {
		h := (*soonest)[0]
		h.event.PeerFINAgoNS = c.closeWait.patience
		c.closeWait.fins.wait(h, told)
		c.tellFIN(&h.event, emit)
	}
}

// flushCloseWait tells of the FINs that wait: the stream is over.
func (c *Classifier) flushCloseWait(emit func(*events.Ending)) {
	for _, h := range c.closeWait.fins.all(func(*held) bool { return true }) {
		c.tellUnanswered(h, emit)
	}
}

// tellUnanswered tells before its time of a FIN that waits no longer.
func (c *Classifier) tellUnanswered(h *held, emit func(*events.Ending)) {
	if h.until != told {
		c.tellFIN(&h.event, emit)
	}
}
