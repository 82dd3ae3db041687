// Package otlp sends endings to a collector, as log records of OpenTelemetry (OTLP, protocol buffers over HTTP).
//
// Tracing never waits for the collector. What it does not take in time is dropped and counted.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/closetrace/closetrace/internal/anonymize"
	"github.com/closetrace/closetrace/internal/events"
)

const (
	// maxQueue and maxQueueBytes bound what waits for the collector: at a thousand endings a second, some seconds.
	maxQueue      = 8192
	maxQueueBytes = 12 << 20
	// DefaultRate is how many endings a second have their own record.
	DefaultRate = 2000
)

// Options say what is sent, and where.
type Options struct {
	URL string // as given: see [Endpoint]
	// Headers are sent with each request, for example for authorization.
	Headers map[string]string
	// Resource are attributes that all records have in common, besides those of the host. They replace these. Key
	// replaces the names of hosts in them.
	Resource map[string]string
	// Rate is how many endings a second have their own record; 0: DefaultRate.
	Rate int
	// Sample is the part of the connections whose ordinary endings are sent, from 0 to 1. Each host with the same value
	// picks the same connections.
	Sample float64
	// Key, if there is one, replaces addresses and names.
	Key *anonymize.Key
	// Workload returns the workload of an ending; nil: none has one.
	Workload func(*events.Ending) string
	// Report gets the first error of each kind, from another goroutine; nil: nothing does.
	Report func(error)
}

// Stats are counts since the start, in endings. Each ending that was not left out by [Options.Sample] is in one of
// them, or still waits.
type Stats struct {
	Exported  uint64 // the collector took its record
	Collapsed uint64 // the collector took the record of another one like it, which has their number
	Dropped   [len(reasons)]uint64
}

// Reason is why an ending was dropped.
type Reason uint8

// The reasons.
const (
	DropRate     Reason = iota // over the rate limit, and unlike 256 others
	DropQueue                  // the queue was full: the collector was away or slow
	DropExpired                // the collector did not take it within five minutes
	DropRejected               // the collector refused it
	DropEnd                    // closetrace ended before the collector took it
)

var reasons = [...]string{
	DropRate: "rate", DropQueue: "queue", DropExpired: "expired", DropRejected: "rejected", DropEnd: "end",
}

// Reasons returns all reasons.
func Reasons() []Reason { return []Reason{DropRate, DropQueue, DropExpired, DropRejected, DropEnd} }

func (r Reason) String() string { return reasons[r] }

// droppedAs completes "N endings dropped: N ...".
var droppedAs = [...]string{
	DropRate: "over the rate limit", DropQueue: "with the queue full", DropExpired: "after trying for 5 minutes",
	DropRejected: "refused by the collector", DropEnd: "that still waited at the end",
}

// queued is an ending that waits for the collector.
type queued struct {
	ending   []byte // as JSON
	workload string
	observed time.Time
	more     uint64 // endings like it that have no record
}

// Exporter sends endings. Observe is called from one goroutine.
type Exporter struct {
	options Options
	encoder *events.Encoder
	mapping *mapping
	sender  *sender

	mu      sync.Mutex // of limiter
	limiter *limiter

	queue     chan *queued
	bytes     atomic.Int64 // in the queue
	collapsed atomic.Uint64
	exported  atomic.Uint64
	dropped   [len(reasons)]atomic.Uint64

	started  bool
	stopping chan struct{}      // closed by Close
	cancel   context.CancelFunc // ends a request
	done     chan struct{}      // closed when nothing is sent any more
}

// New returns an exporter. Nothing is sent before Begin.
func New(o Options) (*Exporter, error) {
	to, err := newSender(o)
	if err != nil {
		return nil, err
	}
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	if o.Workload == nil {
		o.Workload = func(*events.Ending) string { return "" }
	}
	return &Exporter{
		options: o, encoder: events.NewEncoder(), mapping: newMapping(o.Key), sender: to, limiter: newLimiter(o.Rate),
		queue: make(chan *queued, maxQueue), stopping: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// Begin says which host the endings are of, and starts to send.
func (x *Exporter) Begin(h events.Header) {
	x.encoder.Begin(h)
	if x.started {
		return
	}
	x.started = true
	x.sender.resource = resourceOf(h, &x.options)
	var ctx context.Context
	ctx, x.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(x.done)
		x.run(ctx)
	}()
}

// Observe queues an ending, or counts it. It does not wait. Whether others show it makes no difference.
func (x *Exporter) Observe(e *events.Ending, _ bool) {
	if !x.selects(e) {
		return
	}
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.limiter.allow(now) {
		q := new(queued)
		x.fill(q, e, now)
		x.push(q)
		return
	}
	first, ok := x.limiter.collapse(e, now)
	if !ok {
		x.drop(DropRate, 1)
	} else if first != nil {
		x.fill(first, e, now)
	}
}

// selects reports whether an ending is to be sent. Of an ordinary one its connection decides, so that each host decides
// alike. The id is as good as a random number.
func (x *Exporter) selects(e *events.Ending) bool {
	if e.IsAbnormal() {
		return true
	}
	const digits = 53 // of a float64
	return e.ConnectionID != 0 && float64(e.ConnectionID>>(64-digits)) < x.options.Sample*(1<<digits)
}

func (x *Exporter) fill(q *queued, e *events.Ending, now time.Time) {
	q.ending, q.workload, q.observed = x.encoder.Append(nil, e), x.options.Workload(e), now
}

func (x *Exporter) push(q *queued) {
	if x.bytes.Load()+int64(len(q.ending)) <= maxQueueBytes {
		select {
		case x.queue <- q:
			x.bytes.Add(int64(len(q.ending)))
			return
		default:
		}
	}
	x.drop(DropQueue, 1+q.more)
}

// drop counts endings that are not sent, with those that their records stand for.
func (x *Exporter) drop(why Reason, endings uint64) { x.dropped[why].Add(endings) }

// Shutdown sends what is queued until ctx ends, and counts the rest as dropped. Its error says how many endings of the
// whole run were dropped, and why; nil: none.
func (x *Exporter) Shutdown(ctx context.Context) error {
	if !x.started {
		return nil
	}
	close(x.stopping)
	defer context.AfterFunc(ctx, x.cancel)()
	<-x.done
	x.cancel()
	return x.whyDropped()
}

// whyDropped returns how many endings were dropped for each reason, with the failure of the last request, or nil. It is
// called when nothing is sent any more.
func (x *Exporter) whyDropped() error {
	var parts []string
	for _, why := range Reasons() {
		if n := x.dropped[why].Load(); n > 0 {
			parts = append(parts, events.Grouped(n)+" "+droppedAs[why])
		}
	}
	if len(parts) == 0 {
		return nil
	}
	text := fmt.Sprintf("%s dropped: %s", events.Quantity(x.Dropped(), "ending", "endings"), strings.Join(parts, ", "))
	if x.sender.failure == nil {
		return errors.New(text)
	}
	return fmt.Errorf("%s; the last request failed: %w", text, x.sender.failure)
}

// Dropped returns how many endings were dropped. It may be called from any goroutine.
func (x *Exporter) Dropped() uint64 {
	var n uint64
	for why := range x.dropped {
		n += x.dropped[why].Load()
	}
	return n
}

// Stats returns the counts so far. It may be called from any goroutine.
func (x *Exporter) Stats() Stats {
	s := Stats{Exported: x.exported.Load(), Collapsed: x.collapsed.Load()}
	for why := range x.dropped {
		s.Dropped[why] = x.dropped[why].Load()
	}
	return s
}
