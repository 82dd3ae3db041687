// Package classify concludes from events which path an ending took and why. It
// is pure: the same events give the same verdicts, live or replayed; it knows
// no kernel, no /proc and no clock but that of the events.
package classify

import (
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Held closes: where the return of a call is not seen (tracepoint mode), a
// second fact about it may follow, so the verdict waits for it.
const (
	// afterthought is how long a RST after the FIN of the same call may take.
	afterthought = 5 * time.Millisecond
	// lingerSlack is what a close that waits under SO_LINGER may take beyond
	// its time until the task has run again.
	lingerSlack = 250 * time.Millisecond
	// maxHeld bounds memory: about 4 MB. The oldest is released first.
	maxHeld = 8192
)

// Classifier turns a stream of events into endings. Not for concurrent use.
type Classifier struct {
	header events.Header
	held   []held // in order of arrival
	// Unexplained counts events that no rule of this version covers.
	Unexplained uint64
}

// held is a close whose verdict waits until a point of the event clock.
type held struct {
	event events.Event
	until uint64
}

// New makes a classifier for the events under a header.
func New(h events.Header) *Classifier { return &Classifier{header: h} }

// Push takes the next event and emits the endings it completes. The ending is
// valid during the call of emit only.
func (c *Classifier) Push(ev *events.Event, emit func(*events.Ending)) {
	c.Advance(ev.MonoNS, emit)
	switch {
	case ev.Kind == events.KindWaitOver:
		c.waitOver(ev)
	case ev.Flags.Has(events.InReportedCall):
		c.afterthought(ev, emit)
	case ev.Kind == events.KindClose && c.mayGrow(ev):
		c.release(func(h *held) bool { return h.event.Sock == ev.Sock }, emit)
		if len(c.held) == maxHeld {
			c.conclude(&c.held[0].event, emit)
			c.held = append(c.held[:0], c.held[1:]...)
		}
		c.held = append(c.held, held{*ev, ev.MonoNS + uint64(c.patience(ev))})
	default:
		c.conclude(ev, emit)
	}
}

// Advance emits what was held until before a time of the event clock
// (CLOCK_MONOTONIC, nanoseconds). Live, it is called with the present, so that
// a verdict does not wait for the next event.
func (c *Classifier) Advance(monoNS uint64, emit func(*events.Ending)) {
	c.release(func(h *held) bool { return h.until < monoNS }, emit)
}

// Flush emits all that is held: the stream is over.
func (c *Classifier) Flush(emit func(*events.Ending)) {
	c.release(func(*held) bool { return true }, emit)
}

// release concludes the held closes that are due.
func (c *Classifier) release(due func(*held) bool, emit func(*events.Ending)) {
	first := 0
	for first < len(c.held) && !due(&c.held[first]) {
		first++
	}
	if first == len(c.held) {
		return // the common case: nothing moves
	}
	kept := c.held[:first]
	for i := first; i < len(c.held); i++ {
		if h := &c.held[i]; due(h) {
			c.conclude(&h.event, emit)
		} else {
			kept = append(kept, *h)
		}
	}
	c.held = kept
}

// mayGrow: the record was made at the first change of state, and the call goes
// on.
func (c *Classifier) mayGrow(ev *events.Event) bool {
	f := c.fact(ev)
	return ev.Flags.Has(events.ReturnUnseen) && !f.sent(events.SentRST) &&
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
	for i := range c.held {
		h := &c.held[i]
		if h.event.Sock != ev.Sock || !h.event.Flags.Has(events.LingerOn) {
			continue
		}
		h.event.DurationNS = ev.MonoNS - h.event.MonoNS
		h.event.Signal = ev.Signal
		if ev.Signal == 0 {
			h.event.AtReturn = events.FinWait2
			if h.event.Before == events.CloseWait || h.event.Before == events.LastAck {
				h.event.AtReturn = events.Close
			}
		}
		h.until = ev.MonoNS + uint64(afterthought)
	}
}

// afterthought joins a RST to the close that sent a FIN before it.
func (c *Classifier) afterthought(ev *events.Event, emit func(*events.Ending)) {
	for i := range c.held {
		h := &c.held[i].event
		if h.Sock == ev.Sock && h.Task.TID == ev.Task.TID {
			h.Flags |= events.SentRST
			h.KernelReason, h.AtRST, h.After = ev.KernelReason, ev.AtRST, events.Close
			c.release(func(q *held) bool { return &q.event == h }, emit)
			return
		}
	}
	c.Unexplained++ // its close was concluded already
}

func (c *Classifier) fact(ev *events.Event) *fact { return &fact{Event: ev, hz: c.header.HZ} }

// conclude finds the rule for an event and emits the ending.
func (c *Classifier) conclude(ev *events.Event, emit func(*events.Ending)) {
	f := c.fact(ev)
	if f.lingered() && f.unacknowledged() && f.waited() == 0 {
		// Nothing ended the wait in time, so time did.
		f.WaitedJiffies = f.timeout()
	}
	trigger, signal := f.trigger()
	if ev.Kind == events.KindShutdown && trigger == events.TriggerConnect {
		c.Unexplained++ // connect(AF_UNSPEC), a disconnect
		return
	}
	for i := range rules[ev.Kind] {
		r := &rules[ev.Kind][i]
		if !r.when(f) {
			continue
		}
		e := c.ending(f, r)
		e.Trigger, e.Signal = trigger, signal
		if ev.Signal != 0 {
			e.Signal = int(ev.Signal)
		}
		if trigger == events.TriggerLastReference {
			e.Syscall = ev.Syscall
		}
		emit(e)
		return
	}
	c.Unexplained++
}

func (c *Classifier) ending(f *fact, r *rule) *events.Ending {
	e := &events.Ending{
		Time: time.Unix(0, int64(f.MonoNS)+c.header.WallOffsetNS), MonoNS: f.MonoNS,
		Path: r.path, Title: r.title, Cause: string(r.why(make(phrase, 0, 128), f)), Doubt: c.doubt(f, r),
		Local: f.Local, Remote: f.Remote, Netns: f.Netns, CgroupID: f.CgroupID,
		Before: f.Before, After: f.After,
		FIN: f.sent(events.SentFIN), RST: f.sent(events.SentRST), KernelReason: f.KernelReason,
		Evidence: f.evidence(), DurationNS: f.DurationNS,
	}
	if f.sent(events.TaskContext) && f.Kind != events.KindReply {
		actor := f.Task
		e.Actor = &actor
	}
	return e
}

// doubt says why a verdict is inferred, "" if it was observed.
func (c *Classifier) doubt(f *fact, r *rule) string {
	switch {
	case r.doubt != "":
		return r.doubt
	case r.path == CloseLingerTimeout && f.sent(events.ReturnUnseen):
		return "the return of close(2) cannot be seen in tracepoint mode; no ACK and no signal came in time"
	case f.Kind == events.KindClose && !f.sent(events.UnderLock) && !f.sent(events.ReturnUnseen):
		return "the evidence was read before the socket lock was taken"
	}
	return ""
}

func (f *fact) evidence() events.Evidence {
	return events.Evidence{
		UnreadBytes: f.UnreadBytes, UnsentBytes: f.UnsentBytes, UnackedBytes: f.UnackedBytes,
		BytesSent: f.BytesSent, BytesReceived: f.BytesReceived,
		FINUnsent: f.sent(events.SentFIN) && f.UnsentLeft > 0,
		LingerOn:  f.sent(events.LingerOn), Linger: f.duration(f.LingerJiffies), Linger2: f.linger2(),
		Waited:  f.lingerWait(),
		SockErr: int(f.SockErr), Errno: int(max(0, -f.Result)), PeerFIN: f.sent(events.PeerFIN),
		Children: f.Children, ChildrenReset: f.ChildrenReset, PendingRequests: f.PendingRequests,
		MPTCP: f.sent(events.MPTCP),
	}
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
	for _, kind := range []events.Kind{events.KindClose, events.KindReset, events.KindReply, events.KindShutdown, events.KindFIN} {
		for _, r := range rules[kind] {
			if !seen[r.path] {
				seen[r.path] = true
				paths = append(paths, PathInfo{r.path, r.title})
			}
		}
	}
	return paths
}
