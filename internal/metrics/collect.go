package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/closetrace/closetrace/internal/events"
)

// StuckSockets are sockets that do not close.
type StuckSockets struct {
	Count  int
	Oldest time.Duration // least age of the oldest; 0: unknown
}

// stuckKey has the labels of stuck sockets.
type stuckKey struct{ state, diagnosis, workload string }

// Stuck collects the sockets that do not close, for [Metrics.SetStuck].
type Stuck map[stuckKey]StuckSockets

// Add adds a socket. Its age is 0 if it is unknown.
func (s Stuck) Add(state events.State, diagnosis, workload string, age time.Duration) {
	key := stuckKey{state.String(), diagnosis, workload}
	sum := s[key]
	sum.Count++
	sum.Oldest = max(sum.Oldest, age)
	s[key] = sum
}

// SetStuck replaces the stuck sockets by those that were found last. They are of the same workloads as endings.
func (m *Metrics) SetStuck(found Stuck) {
	m.mu.Lock()
	defer m.mu.Unlock()
	bounded := make(map[stuckKey]StuckSockets, len(found))
	for key, sockets := range found {
		w, _ := m.workloads.use(key.workload)
		key.workload = w.name
		if _, known := bounded[key]; !known && len(bounded) >= m.workloads.bounds.Series/6 {
			key.workload = Other
		}
		sum := bounded[key]
		sum.Count += sockets.Count
		sum.Oldest = max(sum.Oldest, sockets.Oldest)
		bounded[key] = sum
	}
	m.stuck = bounded
}

// The metrics that are read at a scrape.
var (
	stuckDesc = describe("closetrace_sockets_stuck",
		"Sockets that do not close, by their state and why: closetrace stuck explains the diagnoses.",
		"state", "diagnosis", "workload")
	oldestDesc = describe("closetrace_sockets_stuck_oldest_seconds",
		"How long the oldest of these sockets has at least been in its state, if that is known.",
		"state", "diagnosis", "workload")
	lostDesc = describe("closetrace_records_lost_total",
		"Records that the ring buffer had no space for.")
	missedDesc = describe("closetrace_probes_missed_total",
		"Runs of programs that the kernel skipped.")
	suppressedDesc = describe("closetrace_replies_suppressed_total",
		"RST replies that the rate limit of the kernel side left out.")
	droppedDesc = describe("closetrace_export_dropped_total",
		"Endings that could not be exported: abnormal ones, and ordinary ones of --otlp-sample.")
	recordingDesc = describe("closetrace_recording_failed",
		"1 if the recording failed and ended, while tracing goes on. There is none without a recording.")
	unexplainedDesc = describe("closetrace_audit_unexplained",
		"By how much a kernel counter has moved more than the endings explain, since tracing started.", "counter")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// collector reads what is not counted when an ending is observed. It has the endings as well, because the kernel side
// counts some of them.
type collector struct{ *Metrics }

// Describe lists the metrics.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	c.endings.Describe(to)
	for _, d := range []*prometheus.Desc{
		stuckDesc, oldestDesc, lostDesc, missedDesc, suppressedDesc, droppedDesc, recordingDesc, unexplainedDesc,
	} {
		to <- d
	}
}

// Collect reads them.
func (c collector) Collect(to chan<- prometheus.Metric) {
	read := c.current(to)
	c.endings.Collect(to)
	if read == nil {
		return
	}
	r := read()
	for path, n := range r.Counted {
		to <- counter(c.countedDesc(), n, string(path), Any)
	}
	to <- counter(lostDesc, r.LostRecords)
	to <- counter(missedDesc, r.MissedProbes)
	to <- counter(suppressedDesc, r.Suppressed)
	to <- counter(droppedDesc, r.ExportDropped)
	if r.Recorded {
		failed := 0.0
		if r.RecordingFailed {
			failed = 1
		}
		to <- gauge(recordingDesc, failed)
	}
	for name, n := range r.Unexplained {
		to <- gauge(unexplainedDesc, float64(n), name)
	}
}

// current removes the series that have expired and collects the stuck sockets. It returns what reads the rest.
func (c collector) current(to chan<- prometheus.Metric) func() Readings {
	c.mu.Lock()
	stuck, read := c.stuck, c.read
	c.workloads.expire(c.workloads.now())
	c.mu.Unlock()
	for key, sockets := range stuck {
		labels := []string{key.state, key.diagnosis, key.workload}
		to <- gauge(stuckDesc, float64(sockets.Count), labels...)
		if sockets.Oldest > 0 {
			to <- gauge(oldestDesc, sockets.Oldest.Seconds(), labels...)
		}
	}
	return read
}

// countedDesc returns the description of the endings.
func (c collector) countedDesc() *prometheus.Desc {
	described := make(chan *prometheus.Desc, 1)
	c.endings.Describe(described)
	return <-described
}

func gauge(d *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func counter(d *prometheus.Desc, n uint64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}
