package pipeline

import (
	"fmt"
	"math"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/record"
)

// Trigger says around which endings to record. The zero value: everything is recorded.
type Trigger struct {
	Endings       []filter.Pattern
	Before, After time.Duration
}

// Active reports whether only the time around some endings is recorded.
func (t Trigger) Active() bool { return len(t.Endings) > 0 }

// The times of a trigger, unless the user chooses others.
const (
	TriggerBefore = 30 * time.Second
	TriggerAfter  = 10 * time.Second
)

const (
	// maxUntriggered bounds the events that are held for an ending that may come: about 40 MB.
	maxUntriggered = 32768
	// triggerSlack is how long after it happened most endings are concluded, at most. A FIN that is not answered takes
	// --close-wait longer.
	triggerSlack = time.Second
	second       = uint64(time.Second)
	// maxOpenFINs bounds the FINs of which the answer is recorded whenever it comes.
	maxOpenFINs = 4096
)

// triggered is a [Recorder] that records only the time around some endings, and an [Observer] of all. What it leaves
// out it records as a loss, so that a verdict of the replay that would rest on it is inferred.
type triggered struct {
	*recording
	trigger Trigger
	hold    uint64 // nanoseconds for which an event is held

	held  []heldEvent
	first int      // of held
	spare [][]byte // records, for reuse
	until uint64   // the events up to this time are recorded (CLOCK_MONOTONIC)
	gap   events.Event
	fins  map[uint64]bool // sockets with a FIN received that is recorded and not answered yet

	fired, leftOut, dropped uint64 // endings; events; of these, those that maxUntriggered left out
}

// heldEvent is a copy of an event.
type heldEvent struct {
	event  events.Event
	record []byte // of event, which is nil if it has none
}

func newTriggered(r *recording, t Trigger, closeWaitNS uint64) *triggered {
	return &triggered{
		recording: r, trigger: t, hold: uint64(t.Before+triggerSlack) + closeWaitNS, fins: map[uint64]bool{},
	}
}

// Write records or holds an event.
func (t *triggered) Write(ev *events.Event) error {
	if ev.MonoNS <= t.until {
		return t.keep(ev)
	}
	for t.count() > 0 && t.held[t.first].event.MonoNS+t.hold < ev.MonoNS {
		t.leaveOut(t.next())
	}
	if t.count() == maxUntriggered {
		t.dropped++
		t.leaveOut(t.next())
	}
	t.add(ev)
	return nil
}

func (t *triggered) count() int { return len(t.held) - t.first }

func (t *triggered) add(ev *events.Event) {
	if t.first > maxUntriggered { // as many as can be held are gone: use their place
		t.held, t.first = t.held[:copy(t.held, t.held[t.first:])], 0
	}
	h := heldEvent{event: *ev}
	if n := len(t.spare); n > 0 {
		h.record, t.spare = t.spare[n-1][:0], t.spare[:n-1]
	}
	h.record = append(h.record, ev.Record...)
	h.event.Record = nil
	if ev.Record != nil {
		h.event.Record = h.record
	}
	t.held = append(t.held, h)
}

// next removes the oldest event that is held. It is valid until the next call.
func (t *triggered) next() *events.Event {
	h := &t.held[t.first]
	t.first++
	t.spare = append(t.spare, h.record)
	return &h.event
}

// leaveOut makes an event part of the next loss, to which a real loss adds its numbers, unless it answers a FIN that is
// recorded: without the answer, a replay would report the FIN as not answered.
func (t *triggered) leaveOut(ev *events.Event) {
	if t.fins[ev.Sock] && ev.Kind != events.KindPeerFIN {
		_ = t.keep(ev) // the recording has its error
		return
	}
	g := &t.gap
	from := ev.MonoNS - min(ev.DurationNS, ev.MonoNS)
	if g.Kind == 0 {
		*g = events.Event{Kind: events.KindLoss, MonoNS: ev.MonoNS}
	} else {
		from = min(from, g.MonoNS-g.DurationNS)
	}
	g.MonoNS = max(g.MonoNS, ev.MonoNS)
	g.DurationNS = g.MonoNS - from
	if ev.Kind == events.KindLoss {
		g.LostRecords = addCapped(g.LostRecords, ev.LostRecords)
		g.MissedProbes = addCapped(g.MissedProbes, ev.MissedProbes)
		g.RepliesLeftOut = addCapped(g.RepliesLeftOut, ev.RepliesLeftOut)
		return
	}
	t.leftOut++
	if g.LostRecords < math.MaxUint32 {
		g.LostRecords++ // as well, so that any reader considers it a gap
		g.LeftOut++
	}
}

// addCapped returns a + b, or the highest number.
func addCapped(a, b uint32) uint32 { return a + min(b, math.MaxUint32-a) }

// keep records an event, after what was left out before it.
func (t *triggered) keep(ev *events.Event) error {
	// The connection of a FIN that this side has no answer to, because it sent its own before, may have no later event.
	switch isOpen := ev.Kind == events.KindPeerFIN && ev.After == events.CloseWait; {
	case isOpen && len(t.fins) >= maxOpenFINs:
		t.leaveOut(ev)
		return nil
	case isOpen:
		t.fins[ev.Sock] = true
	default:
		delete(t.fins, ev.Sock)
	}
	if err := t.keepGap(); err != nil {
		return err
	}
	return t.recording.Write(ev)
}

// keepGap records what was left out since the last event as a loss.
func (t *triggered) keepGap() error {
	if t.gap.Kind == 0 {
		return nil
	}
	gap := t.gap
	t.gap = events.Event{}
	return t.recording.Write(&gap)
}

// Observe records what happened before an ending of the trigger, and what will happen after it.
func (t *triggered) Observe(e *events.Ending, _ bool) {
	if !filter.MatchAny(t.trigger.Endings, e) {
		return
	}
	t.fired++
	from := e.MonoNS - min(e.MonoNS, uint64(t.trigger.Before))
	t.until = max(t.until, e.MonoNS+uint64(t.trigger.After))
	for t.count() > 0 && t.held[t.first].event.MonoNS <= t.until {
		if ev := t.next(); ev.MonoNS < from {
			t.leaveOut(ev)
		} else if t.keep(ev) != nil {
			return // the recording has its error
		}
	}
}

// Owner records the owner of an event, with the event if that is held.
func (t *triggered) Owner(ev *events.Event) {
	for i := len(t.held) - 1; i >= t.first; i-- {
		held := &t.held[i].event
		if isSame(held, ev) {
			held.Owner = ev.Owner
			return
		}
		if held.MonoNS+second < ev.MonoNS { // about as far as events are out of order
			break
		}
	}
	t.recording.Owner(ev)
}

// Idle records a moment without events, if the events around it are recorded.
func (t *triggered) Idle(monoNS uint64) error {
	if monoNS > t.until {
		return nil
	}
	return t.recording.Idle(monoNS)
}

// End completes the recording. It has no audit if something was left out, as the counters include that.
func (t *triggered) End(e *record.End) error {
	for t.count() > 0 {
		t.leaveOut(t.next())
	}
	_ = t.keepGap() // as above
	if t.leftOut > 0 {
		e.Audit = record.Audit{Impossible: "--trigger recorded only the time around some endings"}
	}
	fmt.Fprintf(t.stderr, "trigger: %s; %s recorded, %s left out%s\n",
		events.Quantity(t.fired, "ending", "endings"), events.Quantity(t.written, "event", "events"),
		events.Grouped(t.leftOut), t.overflow())
	return t.recording.End(e)
}

// overflow says what the bound on memory left out.
func (t *triggered) overflow() string {
	if t.dropped == 0 {
		return ""
	}
	return fmt.Sprintf(", of them %s before the time of the trigger was over: at most %s are held",
		events.Grouped(t.dropped), events.Grouped(maxUntriggered))
}
