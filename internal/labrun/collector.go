package labrun

import (
	"slices"
	"sync"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/pipeline"
)

// collector is a sink that keeps the endings of the scenarios that run.
type collector struct {
	mu   sync.Mutex
	seen map[uint32][]events.Ending // by network namespace
	raw  []events.Event
}

// Write keeps an ending.
func (c *collector) Write(e *events.Ending) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := *e
	if e.Actor != nil {
		actor := *e.Actor
		kept.Actor = &actor
	}
	if c.seen == nil {
		c.seen = map[uint32][]events.Ending{}
	}
	c.seen[e.Netns] = append(c.seen[e.Netns], kept)
	return nil
}

// Flush does nothing.
func (c *collector) Flush() error { return nil }

// Close does nothing.
func (c *collector) Close() error { return nil }

// eventCollector is a recorder that keeps events in a collector.
type eventCollector struct {
	pipeline.DiscardRecorder
	*collector
}

// Write keeps an event.
func (e eventCollector) Write(ev *events.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.raw = append(e.raw, *ev)
	return nil
}

// Flush does nothing.
func (e eventCollector) Flush() error { return nil }

// drop drops what was kept of a run. A later namespace with the same inode number may exist already.
func (c *collector) drop(res *lab.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if seen, ok := c.seen[res.Netns]; ok {
		c.seen[res.Netns] = slices.DeleteFunc(seen, func(e events.Ending) bool { return e.MonoNS <= res.EndNS })
	}
	c.raw = c.raw[:0]
}

// endings returns the endings of a run that its scenario compares.
func (c *collector) endings(sc *lab.Scenario, res *lab.Result) []events.Ending {
	return slices.DeleteFunc(c.all(res), func(e events.Ending) bool { return !sc.Compares(string(e.Path)) })
}

// all returns all endings of a run, whatever their families.
func (c *collector) all(res *lab.Result) []events.Ending {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []events.Ending
	for _, e := range c.seen[res.Netns] {
		if within(res, e.Netns, e.MonoNS) {
			found = append(found, e)
		}
	}
	return found
}

// moved returns how far all endings of a run move the kernel's counters, whatever their families.
func (c *collector) moved(res *lab.Result) events.Moved {
	c.mu.Lock()
	defer c.mu.Unlock()
	var moved events.Moved
	for i := range c.seen[res.Netns] {
		if e := &c.seen[res.Netns][i]; within(res, e.Netns, e.MonoNS) {
			moved.Add(e)
		}
	}
	return moved
}

// recorded returns the events of a run. The event of the end of a wait names its socket only.
func (c *collector) recorded(res *lab.Result) []events.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []events.Event
	sockets := map[uint64]bool{}
	for _, ev := range c.raw {
		netns := ev.Netns
		if ev.Kind == events.KindWaitOver && sockets[ev.Sock] {
			netns = res.Netns
		}
		if within(res, netns, ev.MonoNS) {
			found = append(found, ev)
			sockets[ev.Sock] = true
		}
	}
	return found
}

func within(res *lab.Result, netns uint32, monoNS uint64) bool {
	return netns == res.Netns && monoNS >= res.StartNS && monoNS <= res.EndNS
}
