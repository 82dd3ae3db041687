package pipeline

import (
	"bytes"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Limits of an event that waits for the names of its stack.
const (
	namesTimeout = 20 * time.Millisecond // to which the time until the next poll may be added
	maxWaiting   = 1024                  // events: about 4 MB
)

// waiting are events in the order in which they were read: one whose stack is being named, and those after it. So a
// stack delays an event by at most namesTimeout, but not the reading of the next ones.
type waiting struct {
	queue []waitingEvent
}

type waitingEvent struct {
	event events.Event
	names Naming // nil: none
	until time.Time
}

func (w *waiting) empty() bool { return len(w.queue) == 0 }

// add adds an event, which is copied.
func (w *waiting) add(ev *events.Event, names Naming) {
	w.queue = append(w.queue, waitingEvent{*ev, names, time.Now().Add(namesTimeout)})
	last := &w.queue[len(w.queue)-1].event
	last.Record = bytes.Clone(last.Record)
}

// release passes on the events that wait no more.
func (w *waiting) release(pass func(*events.Event) error) error {
	for len(w.queue) > 0 && (w.queue[0].ready() || len(w.queue) > maxWaiting) {
		if err := w.first(pass); err != nil {
			return err
		}
	}
	return nil
}

// releaseAll passes on all events, each when it waits no more.
func (w *waiting) releaseAll(pass func(*events.Event) error) error {
	for len(w.queue) > 0 {
		w.queue[0].wait()
		if err := w.first(pass); err != nil {
			return err
		}
	}
	return nil
}

// first passes on the first event.
func (w *waiting) first(pass func(*events.Event) error) error {
	first := &w.queue[0]
	if first.names != nil {
		first.names.Finish()
	}
	err := pass(&first.event)
	*first = waitingEvent{} // to be collected
	if w.queue = w.queue[1:]; len(w.queue) == 0 {
		w.queue = nil
	}
	return err
}

// ready reports whether an event waits no more.
func (e *waitingEvent) ready() bool {
	if e.names == nil || !time.Now().Before(e.until) {
		return true
	}
	select {
	case <-e.names.Done():
		return true
	default:
		return false
	}
}

// wait waits until an event is ready.
func (e *waitingEvent) wait() {
	if e.names == nil {
		return
	}
	select {
	case <-e.names.Done():
	case <-time.After(time.Until(e.until)):
	}
}
