// Package metrics counts endings for Prometheus: a number of time series that does not grow with the number of
// connections, peers, processes or containers.
package metrics

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/closetrace/closetrace/internal/events"
)

// Readings are what the tracer has counted since it began, at the moment of a scrape.
type Readings struct {
	LostRecords, MissedProbes, Suppressed uint64
	// Counted are the endings that the kernel side counted instead of reporting them.
	Counted map[events.Path]uint64
	// Unexplained are by how much kernel counters have moved more than the endings explain.
	Unexplained   map[string]uint64
	ExportDropped uint64
	// Recorded: there is a recording. RecordingFailed: it ended, because its file took no more.
	Recorded, RecordingFailed bool
}

// Metrics has the time series of one run. Its methods may be called from any goroutine.
type Metrics struct {
	registry *prometheus.Registry

	mu        sync.Mutex
	workloads *workloads
	stuck     map[stuckKey]StuckSockets
	read      func() Readings // nil until Begin

	endings, resets *prometheus.CounterVec
	unread, linger  *prometheus.HistogramVec
	build           *prometheus.GaugeVec
	overflow        prometheus.Counter
}

// New returns metrics without an ending.
func New(b Bounds) *Metrics {
	m := &Metrics{
		registry:  prometheus.NewRegistry(),
		workloads: newWorkloads(b, time.Now),
		endings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "closetrace_tcp_endings_total",
			Help: "Endings of TCP connections on this host, by the path that the kernel took. The workload \"any\" has the " +
				"ordinary closes, which the kernel side counts without their process.",
		}, []string{"path", "workload"}),
		resets: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "closetrace_tcp_resets_total",
			Help: "RSTs sent and received. The reason is the kernel's own for a RST sent, without the prefix SK_RST_REASON_.",
		}, []string{"direction", "reason", "workload"}),
		unread: newHistogram("closetrace_tcp_unread_bytes",
			"Received bytes that the application had not read when the connection ended, of endings with any.",
			1, 100, 1e3, 1e4, 1e5, 1e6),
		linger: newHistogram("closetrace_tcp_linger_wait_seconds",
			"How long SO_LINGER blocked close(2), of those that it blocked.",
			.001, .01, .1, 1, 10, 60),
		build: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "closetrace_build_info", Help: "The version of closetrace, and the mode by which it is attached; always 1.",
		}, []string{"version", "attach"}),
		overflow: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "closetrace_series_overflow_total",
			Help: "Endings that were counted under the workload \"other\", because the number of workloads or series is " +
				"bounded.",
		}),
	}
	m.workloads.remove = m.remove
	m.registry.MustRegister(collector{m}, m.resets, m.unread, m.linger, m.build, m.overflow,
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// newHistogram returns a native histogram by path. The buckets are for scrapers that do not read native ones.
func newHistogram(name, help string, buckets ...float64) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}, []string{"path"})
}

// Begin says which build is attached by which mode, and what to read at a scrape, from any goroutine.
func (m *Metrics) Begin(version, attach string, read func() Readings) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read = read
	m.build.WithLabelValues(version, attach).Set(1)
}

// Limit changes the bounds.
func (m *Metrics) Limit(b Bounds) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.workloads.limit(b)
}

// Handler returns what answers a scrape, with exemplars if the scraper accepts OpenMetrics, and with native histograms
// if it accepts protobuf. An error is the answer, so that the scraper has it. It does not compress, which would cost
// more than the rest.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, DisableCompression: true, MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout,
		ErrorHandling: promhttp.HTTPErrorOnError,
	})
}

// The limits of scrapes.
const (
	maxScrapes    = 4 // at once
	scrapeTimeout = 10 * time.Second
)

// Observe counts an ending.
func (m *Metrics) Observe(e *events.Ending, _ bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var of prometheus.Labels
	if e.IsAbnormal() {
		of = exemplar(e)
	}
	w, overflown := m.workloads.use(NameOf(e))
	ending, ok := m.counter(w, seriesKey{path: e.Path})
	add(ending, of)
	overflown = overflown || !ok
	if e.HasRST() {
		reset, ok := m.counter(w, resetOf(e))
		add(reset, of)
		overflown = overflown || !ok
	}
	if overflown {
		m.overflow.Inc()
	}
	if n := e.Evidence.UnreadBytes; n > 0 {
		observe(m.unread, e.Path, float64(n), of)
	}
	if t := e.Evidence.Waited; t > 0 {
		observe(m.linger, e.Path, t.Seconds(), of)
	}
}

// counter returns a counter of a workload. ok is false if it is that of other workloads, because of the bound.
func (m *Metrics) counter(w *workload, key seriesKey) (c prometheus.Counter, ok bool) {
	if c, known := w.series[key]; known {
		return c, true
	}
	if !m.workloads.admits(w) {
		c, _ = m.counter(m.workloads.other, key)
		return c, false
	}
	c = m.vector(key).WithLabelValues(key.labels(w.name)...)
	w.series[key] = c
	if w != m.workloads.other {
		m.workloads.series++
	}
	return c, true
}

// remove removes the series of a workload that was forgotten.
func (m *Metrics) remove(w *workload) {
	for key := range w.series {
		m.vector(key).DeleteLabelValues(key.labels(w.name)...)
	}
}

func (m *Metrics) vector(key seriesKey) *prometheus.CounterVec {
	if key.path != "" {
		return m.endings
	}
	return m.resets
}

// seriesKey identifies a series among those of a workload: endings by path or, without one, resets.
type seriesKey struct {
	path              events.Path
	direction, reason string
}

func (k seriesKey) labels(workload string) []string {
	if k.path != "" {
		return []string{string(k.path), workload}
	}
	return []string{k.direction, k.reason, workload}
}

// resetOf returns the key of the RST of an ending. A RST received has no reason, and kernels before 6.10 have none.
func resetOf(e *events.Ending) seriesKey {
	key := seriesKey{direction: "sent", reason: clean(e.KernelReason)}
	if e.ReceivedRST() {
		key.direction = "received"
	}
	if key.reason == "" {
		key.reason = noReason
	}
	return key
}

const noReason = "none"
