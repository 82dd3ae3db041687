package serve

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
)

// notifier reports the state of the service to the service manager: sd_notify(3). Without one it does nothing.
type notifier struct {
	log    *slog.Logger
	failed *sync.Once
}

func newNotifier(log *slog.Logger) notifier { return notifier{log, new(sync.Once)} }

func (n notifier) ready()    { n.send(sd.SdNotifyReady) }
func (n notifier) stopping() { n.send(sd.SdNotifyStopping) }
func (n notifier) watchdog() { n.send(sd.SdNotifyWatchdog) }

// reloading also says since when, as Type=notify-reload requires.
func (n notifier) reloading() {
	n.send(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sd.SdNotifyReloading, kernel.MonoNow()/uint64(time.Microsecond)))
}

func (n notifier) send(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		n.failed.Do(func() { n.log.Warn("the service manager cannot be notified", "because", err) })
	}
}

// pulse is the time of the last sign that events are read and passed on, by CLOCK_MONOTONIC: the clock may be set.
type pulse struct{ last atomic.Uint64 }

// Observe is a sign.
func (p *pulse) Observe(*events.Ending, bool) { p.beat() }

func (p *pulse) beat() { p.last.Store(kernel.MonoNow()) }

// beats reports whether there was a sign within a time. Without events there is one several times per second.
func (p *pulse) beats(within time.Duration) bool {
	last := p.last.Load()
	return last != 0 && kernel.MonoNow()-last < uint64(within)
}

// maxSilence is the time without a sign after which the trace counts as stuck.
const maxSilence = 30 * time.Second

// watchdog notifies the service manager twice per interval that it asks for, while events are read.
func (d *daemon) watchdog(ctx context.Context) {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return
	}
	ticker := time.NewTicker(every / 2)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if d.pulse.beats(max(every, time.Second)) {
			d.notify.watchdog()
		}
	}
}
