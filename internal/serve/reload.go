package serve

import (
	"context"
	"fmt"
	"strings"

	"github.com/closetrace/closetrace/internal/hint"
)

// reloads reads the configuration again at each signal, until ctx ends.
func (d *daemon) reloads(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.o.Hangups:
			d.notify.reloading()
			reloaded := make(chan struct{})
			go func() {
				defer close(reloaded)
				d.reload()
			}()
			select {
			case <-ctx.Done(): // a file system that does not answer must not keep the service from ending
				return
			case <-reloaded:
				d.notify.ready()
			}
		}
	}
}

// reload applies what can change. A configuration with a mistake changes nothing.
func (d *daemon) reload() {
	settings, unchanged, err := d.o.Reload()
	stderr := d.o.Live.Stderr
	if err != nil {
		for _, mistake := range hint.Split(err) {
			d.o.Live.ReportError(fmt.Errorf("the configuration was not reloaded: %w", mistake))
		}
		return
	}
	d.mu.Lock()
	d.settings = settings
	close(d.changed)
	d.changed = make(chan struct{})
	d.mu.Unlock()
	d.metrics.Limit(settings.Bounds)
	d.last.limit(settings.Last)
	if len(unchanged) == 0 {
		fmt.Fprintln(stderr, "closetrace: reloaded the configuration")
		return
	}
	fmt.Fprintf(stderr, "closetrace: reloaded the configuration; restart to change %s\n", strings.Join(unchanged, ", "))
}
