// Package serve is the daemon: a trace that runs until the service manager ends it, and an HTTP server for what it
// counts.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/live"
	"github.com/closetrace/closetrace/internal/metrics"
	"github.com/closetrace/closetrace/internal/pipeline"
)

// Exporter sends abnormal endings to another place. A further one is a new implementation in Options.Exporters.
type Exporter interface {
	// Observe gets every ending, on the goroutine that reads events: it must neither block nor keep the ending, which is
	// valid during the call only. shown says whether it is abnormal.
	pipeline.Observer
	// Begin says which host the endings are of, before the first.
	Begin(events.Header)
	// Dropped returns how many endings could not be sent, so far. It may be called from any goroutine.
	Dropped() uint64
	// Shutdown sends what is queued until ctx ends, and counts the rest as dropped. Nothing is observed after it began.
	// Its error says why endings of the run were dropped.
	Shutdown(ctx context.Context) error
}

// The largest settings. More series than these take a scrape longer than a scraper waits.
const (
	MostSeries = 100_000
	MostLast   = 10_000
)

// Settings are what a reload can change.
type Settings struct {
	Bounds     metrics.Bounds
	Last       int           // abnormal endings that /debug/last has
	StuckEvery time.Duration // how often stuck sockets are counted; 0: never
	// ShutdownTimeout limits how long the end waits for exporters and for requests.
	ShutdownTimeout time.Duration
}

// Options say what to trace and how to serve it.
type Options struct {
	Settings
	Listen  string // HOST:PORT
	Version string
	Live    live.Options
	// Stuck finds the sockets that do not close; nil: they are not counted. It is opened with all privileges.
	Stuck     *StuckSource
	Exporters []Exporter
	// Reload reads the configuration again. unchanged names what differs and cannot change without a restart.
	Reload func() (s Settings, unchanged []string, err error)
	// Hangups gets a signal when the configuration is to be read again.
	Hangups <-chan os.Signal
}

// daemon is a trace that is served.
type daemon struct {
	o       Options
	metrics *metrics.Metrics
	last    *last
	audit   *audit
	notify  notifier
	run     *pipeline.Run
	pulse   pulse
	tracing atomic.Bool // what handlers read is there
	// atDetach is what the source had counted just before it was detached; nil until then.
	atDetach atomic.Pointer[metrics.Readings]

	mu       sync.Mutex
	settings Settings
	changed  chan struct{} // closed when the settings change
	stopping bool
}

// memoryLimit makes the collector run before memory is used that a service should not have for weeks. Up to 24 MB are
// in use where connections end in all ways, and 8 more where the collector of logs is away; with a limit of 32 MB the
// garbage collector then ran at each allocation, ten times a second. A trigger holds more.
const memoryLimit = 40 << 20

// garbage is how much may wait for the garbage collector, in percent of what is in use. It then runs several times a
// second at 1,000 abnormal endings per second, half of it to export them.
const garbage = 20

// Run traces and serves until ctx ends, and sends what is queued then. It returns an error if it cannot begin, or if
// tracing or serving fails.
func Run(ctx context.Context, o Options) error {
	d := &daemon{
		o: o, metrics: metrics.New(o.Bounds), last: newLast(o.Last), settings: o.Settings, changed: make(chan struct{}),
		notify: newNotifier(o.Live.Probe.Log),
	}
	if os.Getenv("GOMEMLIMIT") == "" && !o.Live.Recording.Trigger.Active() {
		debug.SetMemoryLimit(memoryLimit)
	}
	listener, err := listen(o.Listen)
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	server := d.serve(listener, fail)
	defer server.Close()
	if err := d.attach(ctx); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			return serverFailure(ctx) // nil: it was ended before it began
		}
		return err
	}
	defer d.run.Close()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	ended := d.inBackground(ctx)
	d.pulse.beat() // or /readyz would deny, until the first poll, what the next line says
	d.tracing.Store(true)
	fmt.Fprintf(d.o.Live.Stderr, "closetrace: serving http://%s/metrics\n", listener.Addr())
	d.notify.ready()
	err = d.run.Trace(ctx)
	fail(nil)
	d.shutDown(server, ended)
	return errors.Join(err, serverFailure(ctx))
}

// attach begins to trace.
func (d *daemon) attach(ctx context.Context) (err error) {
	o := d.o.Live
	o.Observers = append(o.Observers, d.metrics, &d.pulse)
	for _, e := range d.o.Exporters {
		o.Observers = append(o.Observers, e)
	}
	d.audit = newAudit(&d.o.Live.System, o.Counters)
	o.Observers = append(o.Observers, d.audit)
	o.System.Open = d.opening(o.System.Open)
	if d.run, err = live.Start(ctx, &endings{d.last, &d.pulse}, o); err != nil {
		return err
	}
	h := d.run.Header()
	for _, e := range d.o.Exporters {
		e.Begin(h)
	}
	d.audit.begin()
	d.metrics.Begin(d.o.Version, h.Attach, d.read)
	return nil
}

// serve answers requests on a goroutine of its own. If that fails, it calls fail.
func (d *daemon) serve(on net.Listener, fail context.CancelCauseFunc) *http.Server {
	server := newServer(d, on.Addr())
	go func() {
		if err := server.Serve(on); !errors.Is(err, http.ErrServerClosed) {
			fail(&servingError{err})
		}
	}()
	return server
}

// servingError is why requests are not answered any more.
type servingError struct{ error }

func (s *servingError) Unwrap() error { return s.error }

// serverFailure returns why serving failed, or nil.
func serverFailure(ctx context.Context) error {
	var failed *servingError
	if errors.As(context.Cause(ctx), &failed) {
		return fmt.Errorf("serving HTTP: %w", failed.error)
	}
	return nil
}

// inBackground begins what runs beside the trace until ctx ends. The returned channel is closed once all has ended.
func (d *daemon) inBackground(ctx context.Context) <-chan struct{} {
	var all sync.WaitGroup
	all.Go(func() { d.reloads(ctx) })
	all.Go(func() { d.watchdog(ctx) })
	all.Go(func() { d.audit.run(ctx) })
	if d.o.Stuck != nil {
		all.Go(func() { d.countStuck(ctx) })
	}
	all.Go(func() {
		<-ctx.Done()
		d.mu.Lock()
		d.stopping = true
		d.mu.Unlock()
		d.notify.stopping()
	})
	ended := make(chan struct{})
	go func() {
		all.Wait()
		close(ended)
	}()
	return ended
}

// shutDown sends what is queued, ends the server and waits for what runs beside the trace, all within a limit.
func (d *daemon) shutDown(server *http.Server, background <-chan struct{}) {
	current, _ := d.current()
	ctx, cancel := context.WithTimeout(context.Background(), current.ShutdownTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, e := range d.o.Exporters {
		all.Go(func() {
			if err := e.Shutdown(ctx); err != nil {
				d.o.Live.Probe.Log.Warn("not all endings were exported", "because", err)
			}
		})
	}
	all.Wait()
	var dropped uint64
	for _, e := range d.o.Exporters {
		dropped += e.Dropped()
	}
	if len(d.o.Exporters) > 0 {
		fmt.Fprintf(d.o.Live.Stderr, "export: %s dropped\n", events.Quantity(dropped, "ending", "endings"))
	}
	if server.Shutdown(ctx) != nil {
		server.Close() // a request that takes longer is cut off
	}
	select {
	case <-background:
	case <-ctx.Done(): // it may wait for a file system that does not answer
	}
}

// current returns the settings, and a channel that is closed when they change.
func (d *daemon) current() (Settings, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settings, d.changed
}
