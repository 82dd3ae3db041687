package metrics

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
)

// anEnding is a RST that a process sent because of unread data.
func anEnding(comm string) *events.Ending {
	e := &events.Ending{
		Path: events.CloseRSTUnread, RST: true, KernelReason: "TCP_ABORT_ON_CLOSE", ConnectionID: 0xd228a6386282c031,
		Local: netip.MustParseAddrPort("10.0.0.5:443"), Remote: netip.MustParseAddrPort("10.0.0.9:51234"),
		Actor: &events.Task{PID: 4211, Comm: comm},
	}
	e.Evidence.UnreadBytes = 148
	return e
}

// begun returns metrics that read some numbers.
func begun(b Bounds) *Metrics {
	m := New(b)
	m.Begin("v1.2.3", "fentry", func() Readings {
		return Readings{
			LostRecords: 1, MissedProbes: 2, Suppressed: 3, ExportDropped: 4,
			Recorded: true, RecordingFailed: true,
			Counted:     map[events.Path]uint64{events.CloseFINActive: 5},
			Unexplained: map[string]uint64{"TcpOutRsts": 6},
		}
	})
	return m
}

// The names and labels of the metrics are those that rules and dashboards use.
func TestMetrics(t *testing.T) {
	m := begun(DefaultBounds())
	m.Observe(anEnding("nginx"), true)
	waited := &events.Ending{Path: events.CloseLingerDone}
	waited.Evidence.Waited = 20 * time.Millisecond
	m.Observe(waited, false)
	m.Observe(&events.Ending{Path: events.RecvRST, Owner: &events.Task{Comm: "curl"}}, true)
	stuck := Stuck{}
	stuck.Add(events.CloseWait, "leaked", "app", 90*time.Second)
	stuck.Add(events.CloseWait, "leaked", "app", 30*time.Second)
	stuck.Add(events.LastAck, "peer-silent", None, 0)
	m.SetStuck(stuck)

	names := []string{
		"closetrace_tcp_endings_total", "closetrace_tcp_resets_total", "closetrace_sockets_stuck",
		"closetrace_sockets_stuck_oldest_seconds", "closetrace_records_lost_total", "closetrace_probes_missed_total",
		"closetrace_replies_suppressed_total", "closetrace_export_dropped_total", "closetrace_audit_unexplained",
		"closetrace_build_info", "closetrace_series_overflow_total", "closetrace_recording_failed",
	}
	var want strings.Builder
	want.WriteString(expected)
	if err := testutil.GatherAndCompare(m.registry, strings.NewReader(want.String()), names...); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for name, path := range map[string]events.Path{
		"closetrace_tcp_unread_bytes": events.CloseRSTUnread, "closetrace_tcp_linger_wait_seconds": events.CloseLingerDone,
	} {
		h := family(t, m, name).Metric[0].GetHistogram()
		if h.GetSampleCount() != 1 || len(h.PositiveSpan) != 1 || len(h.Bucket) < 5 {
			t.Errorf("%s of %s is no native histogram of one value: %v", name, path, h)
		}
	}
}

const expected = `
# HELP closetrace_audit_unexplained By how much a kernel counter has moved more than the endings explain, since tracing started.
# TYPE closetrace_audit_unexplained gauge
closetrace_audit_unexplained{counter="TcpOutRsts"} 6
# HELP closetrace_build_info The version of closetrace, and the mode by which it is attached; always 1.
# TYPE closetrace_build_info gauge
closetrace_build_info{attach="fentry",version="v1.2.3"} 1
# HELP closetrace_export_dropped_total Endings that could not be exported: abnormal ones, and ordinary ones of --otlp-sample.
# TYPE closetrace_export_dropped_total counter
closetrace_export_dropped_total 4
# HELP closetrace_probes_missed_total Runs of programs that the kernel skipped.
# TYPE closetrace_probes_missed_total counter
closetrace_probes_missed_total 2
# HELP closetrace_recording_failed 1 if the recording failed and ended, while tracing goes on. There is none without a recording.
# TYPE closetrace_recording_failed gauge
closetrace_recording_failed 1
# HELP closetrace_records_lost_total Records that the ring buffer had no space for.
# TYPE closetrace_records_lost_total counter
closetrace_records_lost_total 1
# HELP closetrace_replies_suppressed_total RST replies that the rate limit of the kernel side left out.
# TYPE closetrace_replies_suppressed_total counter
closetrace_replies_suppressed_total 3
# HELP closetrace_series_overflow_total Endings that were counted under the workload "other", because the number of workloads or series is bounded.
# TYPE closetrace_series_overflow_total counter
closetrace_series_overflow_total 0
# HELP closetrace_sockets_stuck Sockets that do not close, by their state and why: closetrace stuck explains the diagnoses.
# TYPE closetrace_sockets_stuck gauge
closetrace_sockets_stuck{diagnosis="leaked",state="CLOSE_WAIT",workload="app"} 2
closetrace_sockets_stuck{diagnosis="peer-silent",state="LAST_ACK",workload="none"} 1
# HELP closetrace_sockets_stuck_oldest_seconds How long the oldest of these sockets has at least been in its state, if that is known.
# TYPE closetrace_sockets_stuck_oldest_seconds gauge
closetrace_sockets_stuck_oldest_seconds{diagnosis="leaked",state="CLOSE_WAIT",workload="app"} 90
# HELP closetrace_tcp_endings_total Endings of TCP connections on this host, by the path that the kernel took. The workload "any" has the ordinary closes, which the kernel side counts without their process.
# TYPE closetrace_tcp_endings_total counter
closetrace_tcp_endings_total{path="close.fin.active",workload="any"} 5
closetrace_tcp_endings_total{path="close.linger-wait.done",workload="none"} 1
closetrace_tcp_endings_total{path="close.rst.unread",workload="nginx"} 1
closetrace_tcp_endings_total{path="recv.rst",workload="curl"} 1
# HELP closetrace_tcp_resets_total RSTs sent and received. The reason is the kernel's own for a RST sent, without the prefix SK_RST_REASON_.
# TYPE closetrace_tcp_resets_total counter
closetrace_tcp_resets_total{direction="received",reason="none",workload="curl"} 1
closetrace_tcp_resets_total{direction="sent",reason="TCP_ABORT_ON_CLOSE",workload="nginx"} 1
`

// family returns the metrics of a name.
func family(t *testing.T, m *Metrics, name string) *dto.MetricFamily {
	t.Helper()
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

// A scrape has exemplars in OpenMetrics, which lead to the connection.
func TestExemplars(t *testing.T) {
	m := begun(DefaultBounds())
	m.Observe(anEnding("nginx"), true)
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, r)
	text := w.Body.String()
	line := `closetrace_tcp_endings_total{path="close.rst.unread",workload="nginx"} 1.0 # {`
	_, found, ok := strings.Cut(text, line)
	found, _, _ = strings.Cut(found, "}")
	for _, label := range []string{`connection_id="d228a6386282c031"`, `local="10.0.0.5:443"`, `remote="10.0.0.9:51234"`} {
		if !ok || !strings.Contains(found, label) {
			t.Errorf("no exemplar with %s in\n%s", label, text)
		}
	}
	if !strings.HasSuffix(text, "# EOF\n") {
		t.Errorf("the scrape is incomplete:\n%s", text)
	}
}

// An exemplar is never longer than OpenMetrics allows, and an ending without a connection has none.
func TestLongExemplar(t *testing.T) {
	long := netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:65535")
	for _, test := range []struct {
		id            uint64
		local, remote netip.AddrPort
		want          []string
	}{
		{1, long, long, []string{"connection_id"}},
		{0, long, long, []string{"local", "remote"}},
		{0, netip.AddrPortFrom(long.Addr().WithZone(strings.Repeat("z", 200)), 1), long, nil},
		{0, netip.AddrPort{}, netip.AddrPort{}, nil},
	} {
		e := anEnding("nginx")
		e.ConnectionID, e.Local, e.Remote = test.id, test.local, test.remote
		of := exemplar(e)
		if got := slices.Sorted(maps.Keys(of)); !slices.Equal(got, test.want) || runes(of) > prometheus.ExemplarMaxRunes {
			t.Errorf("%x %s %s: %v, want %v", test.id, test.local, test.remote, of, test.want)
		}
		New(DefaultBounds()).Observe(e, true) // panics if the labels are too long
	}
}

// 100,000 containers, ports and peers stay within the bounds of series and memory, and every ending is counted.
func TestWorkloadsAreBounded(t *testing.T) {
	const endings = 100_000
	bounds := DefaultBounds()
	m := begun(bounds)
	now := time.Now() // on a busy machine this takes minutes, in which workloads would be forgotten
	m.workloads.now = func() time.Time { return now }
	before := heap()
	paths := events.Paths()
	for i := range endings {
		e := anEnding(fmt.Sprintf("worker-%d", i))
		e.Path, e.RST = paths[i%len(paths)].Path, i%2 == 0
		e.KernelReason = []string{"TCP_STATE", "NO_SOCKET", ""}[i%3]
		e.Cgroup = fmt.Sprintf("/kubepods/pod%08x-0000-0000-0000-000000000000/%064x", i, i)
		e.ContainerNames = &events.ContainerNames{Namespace: "shop", Pod: fmt.Sprintf("app%d-0", i), Name: "web"}
		e.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), uint16(i))
		m.Observe(e, true)
	}
	var counted float64
	workloads := map[string]bool{}
	for _, s := range family(t, m, "closetrace_tcp_endings_total").Metric {
		counted += s.GetCounter().GetValue()
		for _, label := range s.Label {
			workloads[label.GetValue()] = workloads[label.GetValue()] || label.GetName() == "workload"
		}
	}
	if counted != endings+5 { // those that the kernel side counted
		t.Errorf("%v endings counted", counted)
	}
	names := 0
	for _, is := range workloads {
		if is {
			names++
		}
	}
	if names != bounds.Workloads+2 { // other, any
		t.Errorf("%d workloads", names)
	}
	over := family(t, m, "closetrace_series_overflow_total").Metric[0].GetCounter().GetValue()
	if over != endings-float64(bounds.Workloads) {
		t.Errorf("%v endings are over the bound", over)
	}
	n, err := testutil.GatherAndCount(m.registry, "closetrace_tcp_endings_total", "closetrace_tcp_resets_total")
	if err != nil || n > bounds.Series+2*len(paths)+10 {
		t.Errorf("%d series, %v", n, err)
	}
	if grown := heap() - before; grown > 16<<20 {
		t.Errorf("%d bytes of memory", grown)
	}
}

// heap returns the bytes in use.
func heap() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// full returns metrics with as many series as the bounds allow.
func full(b Bounds) *Metrics {
	m := begun(b)
	paths := events.Paths()
	name := func(i int) string { return fmt.Sprintf("app%c%c", 'a'+i%b.Workloads/26, 'a'+i%b.Workloads%26) }
	for i := range b.Series {
		e := anEnding(name(i))
		e.Path = paths[i/b.Workloads%len(paths)].Path
		m.Observe(e, true)
	}
	found := Stuck{}
	for i := range b.Series {
		found.Add(events.State(i/b.Workloads), "leaked", name(i), time.Second)
	}
	m.SetStuck(found)
	return m
}

// A scrape at the bound of series is short.
func BenchmarkScrape(b *testing.B) {
	for _, accept := range []string{
		"application/openmetrics-text; version=1.0.0",
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
	} {
		b.Run(accept[:24], func(b *testing.B) {
			m := full(DefaultBounds())
			n, err := testutil.GatherAndCount(m.registry)
			if err != nil || n < DefaultBounds().Series {
				b.Fatal(n, err)
			}
			b.ReportMetric(float64(n), "series")
			begin := cpuTime(b)
			defer func() { b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N)/1e6, "cpu-ms/op") }()
			for b.Loop() {
				r := httptest.NewRequest("GET", "/metrics", nil)
				r.Header.Set("Accept", accept)
				m.Handler().ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}

// cpuTime returns the time that this process has used a processor: the machine may be busy.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Counting an ending costs little of what tracing it costs.
func BenchmarkObserve(b *testing.B) {
	m, e := begun(DefaultBounds()), anEnding("nginx")
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(e, true)
	}
}

// docs/serve.md lists each metric with its labels.
func TestMetricsDoc(t *testing.T) {
	text, err := os.ReadFile("../../docs/serve.md")
	if err != nil {
		t.Fatal(err)
	}
	m := begun(DefaultBounds())
	e := anEnding("nginx")
	e.Evidence.Waited = time.Second
	m.Observe(e, true)
	found := Stuck{}
	found.Add(events.CloseWait, "leaked", "app", time.Second)
	m.SetStuck(found)
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Count(string(text), "\n| `closetrace_")
	for _, f := range all {
		if !strings.HasPrefix(f.GetName(), "closetrace_") {
			continue
		}
		listed--
		row := regexp.MustCompile("\n\\| `" + f.GetName() + "` \\|([^|]*)\\|").FindSubmatch(text)
		if row == nil {
			t.Errorf("docs/serve.md has no %s", f.GetName())
			continue
		}
		for _, label := range f.Metric[0].Label {
			if !strings.Contains(string(row[1]), "`"+label.GetName()+"`") {
				t.Errorf("docs/serve.md has no label %s of %s", label.GetName(), f.GetName())
			}
		}
		if n := strings.Count(string(row[1]), "`") / 2; n != len(f.Metric[0].Label) {
			t.Errorf("docs/serve.md has %d labels of %s", n, f.GetName())
		}
	}
	if listed != 0 {
		t.Errorf("docs/serve.md has %d metrics more than there are", listed)
	}
}
