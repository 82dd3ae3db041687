package metrics

import (
	"container/list"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds limit the number of time series.
type Bounds struct {
	Workloads int // by name; the others are one, "other"
	Series    int // of endings and resets by workload, all together; stuck sockets have at most a third as many
	// Expiry is the time after which a workload without an ending is forgotten, and its series are removed; 0: never.
	Expiry time.Duration
}

// DefaultBounds are enough for a node of Kubernetes with 110 pods. At these bounds a scrape takes less than 20 ms.
func DefaultBounds() Bounds { return Bounds{Workloads: 200, Series: 1500, Expiry: 15 * time.Minute} }

// protected is the time for which a workload is not forgotten for another one. So many workloads that have one ending
// each do not replace those that have some every minute, and series do not come and go with each ending.
const protected = time.Minute

// LeastExpiry is longer than most scrape intervals. With a shorter one, workloads would be forgotten between scrapes.
const LeastExpiry = time.Minute

// workload is a workload with time series of its own.
type workload struct {
	name   string
	used   time.Time // last
	series map[seriesKey]prometheus.Counter
}

// workloads are those with time series of their own, the last used ones.
type workloads struct {
	bounds Bounds
	now    func() time.Time
	remove func(*workload) // removes the series of one

	byName map[string]*list.Element
	order  *list.List // of *workload, the last used one first
	series int        // of all of them, without other
	other  *workload  // all that are not among these
}

func newWorkloads(b Bounds, now func() time.Time) *workloads {
	return &workloads{
		bounds: b, now: now, byName: map[string]*list.Element{}, order: list.New(), other: newWorkload(Other),
	}
}

func newWorkload(name string) *workload {
	return &workload{name: name, series: map[seriesKey]prometheus.Counter{}}
}

// use returns a workload for an ending of now. It is other, and overflown is true, if there is no place for it.
func (w *workloads) use(name string) (of *workload, overflown bool) {
	now := w.now()
	if known := w.byName[name]; known != nil {
		of = known.Value.(*workload)
		of.used = now
		w.order.MoveToFront(known)
		return of, false
	}
	w.expire(now)
	if w.order.Len() >= w.bounds.Workloads && !w.forgetOlder(now.Add(-protected)) {
		return w.other, true
	}
	of = newWorkload(name)
	of.used = now
	w.byName[name] = w.order.PushFront(of)
	return of, false
}

// admits reports whether a workload may have one more series.
func (w *workloads) admits(of *workload) bool { return of == w.other || w.series < w.bounds.Series }

// expire forgets the workloads that were not used for a long time.
func (w *workloads) expire(now time.Time) {
	if w.bounds.Expiry == 0 {
		return
	}
	for w.forgetOlder(now.Add(-w.bounds.Expiry)) {
	}
}

// forgetOlder forgets the workload that was used least recently, if that was before a time.
func (w *workloads) forgetOlder(than time.Time) bool {
	last := w.order.Back()
	if last == nil || !last.Value.(*workload).used.Before(than) {
		return false
	}
	w.forget(last)
	return true
}

func (w *workloads) forget(e *list.Element) {
	of := e.Value.(*workload)
	w.remove(of)
	w.series -= len(of.series)
	delete(w.byName, of.name)
	w.order.Remove(e)
}

// limit changes the bounds, and forgets the workloads for which there is no place any more.
func (w *workloads) limit(b Bounds) {
	w.bounds = b
	for w.order.Len() > b.Workloads || w.series > b.Series {
		w.forget(w.order.Back())
	}
}
