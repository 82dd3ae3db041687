package otlp

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Over the rate, endings that are alike share a record, which has their number. None is lost.
func TestCollapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeCollector{t: t}
		x := made(t, Options{URL: "http://collector", Rate: 10})
		x.sender.client.Transport = c
		x.Begin(header)
		const n = 100_000
		for id := range uint64(n) {
			e := reset(id + 1)
			if id%2 == 0 {
				e.Actor = &events.Task{PID: 8, TID: 8, Comm: "other"}
			}
			x.Observe(e, true)
		}
		time.Sleep(2 * window)
		shutDown(x, 300*time.Millisecond)
		if s := x.Stats(); s.Exported != 12 || s.Collapsed != n-12 || s.all() != n {
			t.Errorf("%+v, want 12 records for %d endings", s, n)
		}
		var collapsed int64
		for _, record := range c.all() {
			for _, a := range record.Attributes {
				if a.Key == "closetrace.collapsed" {
					collapsed += a.Value.GetIntValue()
				}
			}
		}
		if c.records != 12 || collapsed != n-12 {
			t.Errorf("the collector got %d records that stand for %d others", c.records, collapsed)
		}
	})
}

// Endings that are not alike have room for a bounded number of records.
func TestCollapseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := made(t, Options{URL: "http://collector", Rate: 1})
		x.sender.client.Transport = &fakeCollector{t: t}
		x.Begin(header)
		const n = 10_000
		for id := range uint64(n) {
			e := reset(id + 1)
			e.Cgroup = fmt.Sprint("/", id)
			x.Observe(e, true)
		}
		shutDown(x, 300*time.Millisecond)
		if s := x.Stats(); s.Exported != 1+maxGroups || s.Dropped[DropRate] != n-1-maxGroups {
			t.Errorf("%+v", s)
		}
	})
}

// Both hosts send the ordinary endings of the same connections, about as many as asked for, and all abnormal ones.
func TestSample(t *testing.T) {
	a, b := made(t, Options{URL: "http://a", Sample: 0.25}), made(t, Options{URL: "http://b", Sample: 0.25})
	kept := 0
	const n = 10_000
	for i := range uint64(n) {
		id := i * 0x9e3779b97f4a7c15 // as spread as the ids of connections
		if a.selects(ordinary(id)) != b.selects(ordinary(id)) {
			t.Fatalf("connection %x is sent by one end only", id)
		}
		if a.selects(ordinary(id)) {
			kept++
		}
		if !a.selects(reset(id)) {
			t.Fatalf("a reset is not sent")
		}
	}
	if kept < n/5 || kept > n/3 {
		t.Errorf("%d of %d are sent", kept, n)
	}
	for sample, want := range map[float64]bool{0: false, 1: true} {
		x := made(t, Options{URL: "http://a", Sample: sample})
		if got := x.selects(ordinary(1<<64 - 1)); got != want {
			t.Errorf("with %v an ordinary ending is sent: %v", sample, got)
		}
		if x.selects(ordinary(0)) {
			t.Error("an ordinary ending without an id is sent: the other end does not decide alike")
		}
	}
}

// The record that others share is sent every ten seconds, also while so many have their own that each request is full
// within a second.
func TestCollapseUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := made(t, Options{URL: "http://collector"})
		x.sender.client.Transport = &fakeCollector{t: t}
		x.Begin(header)
		const perTick, tick = 30, 10 * time.Millisecond // half as many again as the rate allows
		id := uint64(0)
		for range 2 * window / tick {
			for range perTick {
				id++
				x.Observe(reset(id), true)
			}
			time.Sleep(tick)
		}
		if s := x.Stats(); s.Collapsed < id/8 {
			t.Errorf("after %d endings in %s: %+v", id, 2*window, s)
		}
		shutDown(x, 300*time.Millisecond)
		if s := x.Stats(); s.all() != id || s.Exported+s.Collapsed != id {
			t.Errorf("%+v of %d", s, id)
		}
	})
}
