//go:build linux && (amd64 || arm64)

package probe

import (
	"errors"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
)

const (
	// tick is how often the ring buffer is polled, because the kernel side does not wake the reader.
	tick = 50 * time.Millisecond
	// soon is how long a poll may be away that something waits for.
	soon = 10 * time.Millisecond
)

// pause handles the reason why the reader returned no record.
func (p *Probe) pause(err error, ev *events.Event) error {
	until := p.nextIdle
	switch {
	case errors.Is(err, ringbuf.ErrFlushed): // detached: nothing follows
		until = kernel.MonoNow()
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	}
	if p.noticeLoss(ev) {
		return nil
	}
	p.idle = until
	p.setPoll()
	return events.ErrIdle
}

// setPoll sets the time of the next poll.
func (p *Probe) setPoll() {
	p.asleep = false
	p.pollIn(tick)
}

// PollLater lets the next poll come only after [events.LaterTick], or as soon as something is reported, because nothing
// waits to be printed. It is called by the goroutine that reads, after [events.ErrIdle].
func (p *Probe) PollLater() {
	if p.sleeps == nil || p.sleeps.Set(uint32(1)) != nil {
		return
	}
	// The kernel side takes room for a record and then looks at the variable. A processor that looks first is about to
	// finish the record: then that is polled late, and not lost.
	p.fence.Add(1)
	if p.reader.AvailableBytes() > 0 {
		return
	}
	p.asleep = true
	p.pollIn(events.LaterTick)
}

// PollSoon makes the next poll come sooner than after a tick. It is called by the goroutine that reads.
func (p *Probe) PollSoon() {
	if kernel.MonoNow()+uint64(soon) < p.nextIdle {
		p.pollIn(soon)
	}
}

func (p *Probe) pollIn(d time.Duration) {
	// The reader rounds down to milliseconds.
	p.nextIdle = kernel.MonoNow() + uint64(d-time.Millisecond)
	p.reader.SetDeadline(time.Now().Add(d))
}

// WallOffset returns what is to be added now to the time of an event for nanoseconds since the Unix epoch.
func (p *Probe) WallOffset() int64 { return kernel.WallOffset() }

// IdleNS returns the time of the last [events.ErrIdle], in nanoseconds of CLOCK_MONOTONIC: all events before it were
// read. It may be in the past, because closetrace may have been stopped or waited for a CPU.
func (p *Probe) IdleNS() uint64 { return p.idle }
