package otlp

import (
	"context"
	"errors"
	"time"

	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
)

const (
	// maxBatch and maxBatchBytes bound a request.
	maxBatch      = 512
	maxBatchBytes = 1 << 20
	// linger is how long the first record of a batch waits for others.
	linger = time.Second
	// The pause after a failed request doubles, from minPause to maxPause. A collector may ask for a longer one.
	minPause, maxPause = time.Second, 30 * time.Second
	// maxAsked bounds the pause that a collector asks for.
	maxAsked = 2 * time.Minute
	// expiry is how long a batch is tried.
	expiry = 5 * time.Minute
)

// run sends what is queued until Shutdown, and then what is left.
func (x *Exporter) run(ctx context.Context) {
	for {
		batch, more := x.batch()
		if ctx.Err() != nil {
			x.dropAll(DropEnd, batch)
		} else if len(batch) > 0 {
			x.deliver(ctx, batch)
		}
		if !more {
			return
		}
	}
}

// batch waits for records and returns some, or none if there is nothing to send for a while. more is false after the
// last ones.
func (x *Exporter) batch() (batch []*queued, more bool) {
	x.release(false) // here, because a busy exporter is never late: its batches are full before that
	late := time.NewTimer(linger)
	defer late.Stop()
	for size := 0; len(batch) < maxBatch && size < maxBatchBytes; {
		select {
		case q := <-x.queue:
			batch, size = append(batch, q), size+len(q.ending)
			x.bytes.Add(-int64(len(q.ending)))
			continue
		default:
		}
		select {
		case q := <-x.queue:
			batch, size = append(batch, q), size+len(q.ending)
			x.bytes.Add(-int64(len(q.ending)))
		case <-late.C:
			return batch, true
		case <-x.stopping:
			if x.release(true) == 0 && len(x.queue) == 0 {
				return batch, false
			}
		}
	}
	return batch, true
}

// release queues the records that endings over the rate share, and returns how many.
func (x *Exporter) release(all bool) int {
	x.mu.Lock()
	groups := x.limiter.due(time.Now(), all)
	x.mu.Unlock()
	for _, q := range groups {
		x.push(q)
	}
	return len(groups)
}

// deliver sends a batch until the collector takes or refuses it, it expires, or ctx ends.
func (x *Exporter) deliver(ctx context.Context, batch []*queued) {
	until := time.Now().Add(expiry)
	body, batch, err := x.encode(batch)
	if err != nil {
		x.sender.report("encoding", err)
		x.dropAll(DropRejected, batch)
		return
	}
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		refused, err := x.sender.send(ctx, body)
		if err == nil {
			x.settle(batch, refused)
			return
		}
		var again *retryError
		switch {
		case !errors.As(err, &again):
			x.dropAll(DropRejected, batch)
			return
		case ctx.Err() != nil:
			x.dropAll(DropEnd, batch)
			return
		}
		wait := max(jitter(pause), min(again.after, maxAsked))
		if time.Now().Add(wait).After(until) {
			x.dropAll(DropExpired, batch)
			return
		}
		x.pause(ctx, wait, again.after > 0)
	}
}

// pause waits. Shutdown ends it, so that the batch is tried at once, unless the collector asked for the pause or
// Shutdown was called before.
func (x *Exporter) pause(ctx context.Context, wait time.Duration, asked bool) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	stopping := x.stopping
	select {
	case <-stopping:
		stopping = nil
	default:
		if asked {
			stopping = nil
		}
	}
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-stopping:
	}
}

// encode returns the request for a batch, and the batch without what has no record.
func (x *Exporter) encode(batch []*queued) ([]byte, []*queued, error) {
	records, encoded := make([]*logs.LogRecord, 0, len(batch)), batch[:0]
	for _, q := range batch {
		record, err := x.mapping.record(q)
		if err != nil {
			x.sender.report("mapping", err)
			x.drop(DropRejected, 1+q.more)
			continue
		}
		records, encoded = append(records, record), append(encoded, q)
	}
	body, err := x.sender.request(records)
	return body, encoded, err
}

// settle counts a batch that the collector took, but for some records that it refused: it does not say which.
func (x *Exporter) settle(batch []*queued, refused uint64) {
	for i, q := range batch {
		if uint64(i) < refused {
			x.drop(DropRejected, 1+q.more)
			continue
		}
		x.exported.Add(1)
		x.collapsed.Add(q.more)
	}
}

func (x *Exporter) dropAll(why Reason, batch []*queued) {
	for _, q := range batch {
		x.drop(why, 1+q.more)
	}
}
