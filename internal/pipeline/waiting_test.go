package pipeline

import (
	"slices"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// neverNamed is a stack whose names never come.
type neverNamed struct{}

func (neverNamed) Done() <-chan struct{} { return nil }
func (neverNamed) Finish()               {}

// An event that is ready is passed on when those before it are, and not before.
func TestWaitingKeepsOrder(t *testing.T) {
	var w waiting
	never := neverNamed{}
	var passed []uint64
	pass := func(ev *events.Event) error {
		passed = append(passed, ev.MonoNS)
		return nil
	}
	w.queue = []waitingEvent{
		{event: events.Event{MonoNS: 1}},
		{event: events.Event{MonoNS: 2}, names: never, until: time.Now().Add(time.Hour)},
	}
	w.add(&events.Event{MonoNS: 3}, nil)
	if err := w.release(pass); err != nil || !slices.Equal(passed, []uint64{1}) || w.empty() {
		t.Errorf("passed %v, error %v", passed, err)
	}
}
