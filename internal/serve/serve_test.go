package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/live"
	"github.com/closetrace/closetrace/internal/metrics"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/test/fake"
)

// resetting is a source of closes with unread data. It fails when it is asked to.
type resetting struct {
	fake.Source
	failure chan error
}

func (r *resetting) Read(ev *events.Event) error {
	select {
	case err := <-r.failure:
		return err
	default:
	}
	err := r.Source.Read(ev)
	if err == nil {
		ev.Flags = ev.Flags&^events.SentFIN | events.SentRST
		ev.UnreadBytes, ev.BytesReceived, ev.After, ev.KernelReason = 148, 148, events.Close, "TCP_ABORT_ON_CLOSE"
	}
	return err
}

// output is standard error, which a test reads meanwhile.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// service is a daemon with a source of made-up endings.
type service struct {
	t       *testing.T
	stderr  output
	source  resetting
	options Options
	end     context.CancelFunc
	ended   chan error
	hangups chan os.Signal
	url     string
}

func newService(t *testing.T, endings int) *service {
	s := &service{
		t: t, source: resetting{Source: fake.Source{Left: endings}, failure: make(chan error, 1)}, ended: make(chan error, 1),
		hangups: make(chan os.Signal, 1),
	}
	s.options = Options{
		Settings: Settings{Bounds: metrics.DefaultBounds(), Last: 3, ShutdownTimeout: 5 * time.Second},
		Listen:   "127.0.0.1:0", Version: "v1.2.3", Hangups: s.hangups,
		Live: live.Options{
			Options: pipeline.Options{
				Stderr: &s.stderr, Filter: filter.Endings{Errors: true},
				ReportError: func(err error) {
					fmt.Fprintf(&s.stderr, "closetrace: %v\nhint: %s\n", err, hint.Of(err))
				},
			},
			Probe:   probe.Options{Log: slog.New(slog.NewTextHandler(&s.stderr, nil))},
			Resolve: live.ResolverOptions{Proc: t.TempDir(), Cgroups: noCgroups},
			System: live.System{
				Open:           func(context.Context, probe.Options) (pipeline.Source, error) { return &s.source, nil },
				Privileges:     func() []kernel.Privilege { return nil },
				DropPrivileges: func(kernel.Use) error { return nil },
				ReadCounters:   func(string, uint32) (sink.Counters, error) { return sink.Counters{}, nil },
			},
			Counters: live.CounterOptions{Netns: fake.Netns},
		},
	}
	return s
}

func noCgroups() (func(*events.Event), error) { return nil, errors.New("no cgroup v2") }

var servingAt = regexp.MustCompile(`serving (http://[^/]+)/metrics\n`)

// run runs the daemon until the end of the test.
func (s *service) run() {
	var ctx context.Context
	ctx, s.end = context.WithCancel(s.t.Context())
	go func() { s.ended <- Run(ctx, s.options) }()
	s.t.Cleanup(s.end)
}

// start is run, and returns when it answers.
func (s *service) start() {
	s.t.Helper()
	s.run()
	s.eventually("it serves", func() bool {
		if at := servingAt.FindStringSubmatch(s.stderr.String()); at != nil {
			s.url = at[1]
		}
		return s.url != ""
	})
}

// eventually waits until something is true.
func (s *service) eventually(what string, isTrue func() bool) {
	s.t.Helper()
	for begin := time.Now(); !isTrue(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > 30*time.Second {
			s.t.Fatalf("%s: not after 30 s\n%s", what, &s.stderr)
		}
	}
}

// get returns the answer to a request.
func (s *service) get(path string) (code int, body string) {
	s.t.Helper()
	r, err := http.Get(s.url + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

func (s *service) finish() error {
	s.t.Helper()
	s.end()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(30 * time.Second):
		s.t.Fatalf("it does not end\n%s", &s.stderr)
		return nil
	}
}

func TestEndpoints(t *testing.T) {
	s := newService(t, 5)
	s.start()
	const counted = `closetrace_tcp_endings_total{path="close.rst.unread",workload="nginx"} 5`
	s.eventually("endings are counted", func() bool {
		_, text := s.get("/metrics")
		return strings.Contains(text, counted+"\n")
	})
	_, text := s.get("/metrics")
	for _, want := range []string{
		`closetrace_tcp_resets_total{direction="sent",reason="TCP_ABORT_ON_CLOSE",workload="nginx"} 5`,
		`closetrace_tcp_unread_bytes_sum{path="close.rst.unread"} 740`,
		"closetrace_records_lost_total 2", "closetrace_export_dropped_total 0",
		`closetrace_build_info{attach="fentry",version="v1.2.3"} 1`, "process_resident_memory_bytes ",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	s.eventually("the last endings are kept", func() bool {
		_, body := s.get("/debug/last")
		return strings.Contains(body, `"seen":5`)
	})
	if strings.Contains(text, "closetrace_recording_failed") {
		t.Error("a metric of a recording, and there is none")
	}
	checkLast(t, s, "/debug/last", 3)
	checkLast(t, s, "/debug/last?n=2", 2)
	checkLast(t, s, "/debug/last?n=0", 0)
	for path, want := range map[string]int{
		"/": 200, "/healthz": 200, "/readyz": 200, "/debug/last?n=-1": 400, "/debug/last?n=x": 400, "/metrics/x": 404,
		"/debug/pprof/": 404,
	} {
		if code, body := s.get(path); code != want {
			t.Errorf("%.20s: %d %s", path, code, body)
		}
	}
	if r, err := http.Post(s.url+"/metrics", "text/plain", strings.NewReader("x")); err != nil || r.StatusCode != 405 {
		t.Errorf("POST: %v, %v", r, err)
	}
	if err := s.finish(); err != nil {
		t.Error(err)
	}
}

// checkLast checks an answer with endings.
func checkLast(t *testing.T, s *service, path string, want int) {
	t.Helper()
	_, body := s.get(path)
	var last struct {
		SchemaVersion int `json:"schema_version"`
		Seen          int
		Endings       []struct {
			Path, Host string
			MonoNS     uint64 `json:"mono_ns"`
		}
	}
	if err := json.Unmarshal([]byte(body), &last); err != nil || last.SchemaVersion != events.SchemaVersion ||
		last.Seen != 5 || len(last.Endings) != want {
		t.Errorf("%s: %v in\n%s", path, err, body)
		return
	}
	for i, e := range last.Endings {
		if e.Path != "close.rst.unread" || e.Host != "db1" || i > 0 && e.MonoNS >= last.Endings[i-1].MonoNS {
			t.Errorf("%s: ending %d of\n%s", path, i, body)
		}
	}
}

// While the programs are loaded, every request is refused, and not left without an answer.
func TestStarting(t *testing.T) {
	s := newService(t, 0)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.options.Listen = free.Addr().String()
	free.Close()
	loading, loaded := make(chan bool), make(chan bool)
	s.options.Live.System.Open = func(context.Context, probe.Options) (pipeline.Source, error) {
		close(loading)
		<-loaded
		return &s.source, nil
	}
	s.run()
	<-loading
	s.url = "http://" + s.options.Listen
	for _, path := range []string{"/", "/healthz", "/readyz", "/metrics", "/debug/last"} {
		if code, body := s.get(path); code != http.StatusServiceUnavailable || body != "starting\n" {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	close(loaded)
	s.eventually("it is ready", func() bool { code, _ := s.get("/readyz"); return code == http.StatusOK })
	if err := s.finish(); err != nil {
		t.Error(err)
	}
}

// A web page whose host name leads to this machine gets nothing.
func TestHostNames(t *testing.T) {
	s := newService(t, 1)
	s.start()
	for host, want := range map[string]int{
		"127.0.0.1:9740": 200, "localhost": 200, "localhost:9740": 200, "[::1]:9740": 200, "[::1]": 200,
		"evil.example": 421, "evil.example:9740": 421, "127.0.0.1.evil.example": 421, "LocalHost:9740": 200,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/debug/last", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		answer, err := http.DefaultClient.Do(r)
		if err != nil || answer.StatusCode != want {
			t.Errorf("%s: %v, %v", host, answer, err)
		}
	}
	// A load balancer checks in HTTP/1.0, without a host.
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /healthz HTTP/1.0\r\n\r\n")
	if text, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(text), "HTTP/1.0 200 ") {
		t.Errorf("without a host: %s, %v", text, err)
	}
	if err := s.finish(); err != nil {
		t.Error(err)
	}
}

// Each answer with the last endings is a copy of them, so there is a limit on those at once.
func TestCopiesAtOnce(t *testing.T) {
	s := newService(t, 1)
	d := &daemon{o: s.options, metrics: metrics.New(s.options.Bounds), last: newLast(1)}
	d.tracing.Store(true)
	handler := newServer(d, &net.TCPAddr{}).Handler
	ask := func() int {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/last", nil))
		return w.Code
	}
	d.last.mu.Lock() // no answer can be made
	codes := make(chan int, 2*maxCopies)
	for range cap(codes) {
		go func() { codes <- ask() }()
	}
	for range cap(codes) - maxCopies {
		select {
		case code := <-codes:
			if code != http.StatusServiceUnavailable {
				t.Errorf("one too many: %d", code)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("one too many waits")
		}
	}
	d.last.mu.Unlock()
	for range maxCopies {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("one of the first: %d", code)
		}
	}
	if code := ask(); code != http.StatusOK {
		t.Errorf("one after them: %d", code)
	}
}

// A scrape that is cut off, or is no HTTP at all, changes nothing for others.
func TestBadScrapes(t *testing.T) {
	s := newService(t, 1)
	s.start()
	address := strings.TrimPrefix(s.url, "http://")
	for _, text := range []string{
		"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00", "GET /met",
		"GET /metrics HTTP/1.1\r\nContent-Length: 99999999\r\nHost: x\r\n\r\n", "\r\n\r\n",
		"GET /" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\n\r\n",
	} {
		for range 10 {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(c, text)
			c.Close()
		}
	}
	if code, body := s.get("/healthz"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	if err := s.finish(); err != nil || !strings.Contains(s.stderr.String(), "/metrics\nCOUNT") {
		t.Errorf("%v\n%s", err, &s.stderr)
	}
}

// An address in use is an error before anything is attached.
func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := newService(t, 1)
	s.options.Listen = taken.Addr().String()
	s.options.Live.System.Open = func(context.Context, probe.Options) (pipeline.Source, error) {
		t.Error("attached")
		return nil, errors.New("attached")
	}
	err = Run(t.Context(), s.options)
	if want := "another process listens on " + s.options.Listen; err == nil || err.Error() != want || hint.Of(err) == "" {
		t.Errorf("%v", err)
	}
	s.options.Listen = "192.0.2.1:1"
	if err := Run(t.Context(), s.options); err == nil || hint.Of(err) == "" {
		t.Errorf("%v", err)
	}
}

// slowExporter sends an ending at a time, each in a while.
type slowExporter struct {
	each          time.Duration
	host          string
	seen, dropped atomic.Uint64
	ending        atomic.Bool     // Shutdown was called
	ended         <-chan struct{} // nothing is left to send once it is closed; nil: when all is sent
}

func (e *slowExporter) Begin(h events.Header) { e.host = h.Host }

func (e *slowExporter) Observe(_ *events.Ending, shown bool) {
	if shown {
		e.seen.Add(1)
	}
}

func (e *slowExporter) Dropped() uint64 { return e.dropped.Load() }

func (e *slowExporter) Shutdown(ctx context.Context) error {
	e.ending.Store(true)
	if e.ended != nil {
		<-e.ended
		return nil
	}
	for left := e.seen.Load(); left > 0; left-- {
		if !wait(ctx, e.each) {
			e.dropped.Store(left)
			return ctx.Err()
		}
	}
	return nil
}

// At the end, what is queued is sent within the limit, and the rest is counted.
func TestShutdown(t *testing.T) {
	for _, test := range []struct {
		each time.Duration
		want string
		why  bool // a line says why endings were dropped
	}{
		{time.Millisecond, "export: 0 endings dropped\n", false}, {time.Minute, "export: 5 endings dropped\n", true},
	} {
		s := newService(t, 5)
		s.options.ShutdownTimeout = 200 * time.Millisecond
		if test.each < time.Second {
			s.options.ShutdownTimeout = 30 * time.Second
		}
		e := &slowExporter{each: test.each}
		s.options.Exporters = []Exporter{e}
		s.start()
		s.eventually("all endings are seen", func() bool { return e.seen.Load() == 5 })
		slow, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		slow.Close()
		if err := s.finish(); err != nil || !strings.Contains(s.stderr.String(), test.want) || e.host != "db1" {
			t.Errorf("%v\n%s", err, &s.stderr)
		}
		const why = `msg="not all endings were exported" because="context deadline exceeded"`
		if strings.Contains(s.stderr.String(), why) != test.why {
			t.Errorf("want %s: %t\n%s", why, test.why, &s.stderr)
		}
	}
}

// ending is a source whose numbers jump when it is detached, as those of the kernel side do: calls that are still
// blocked are missed runs, and every open FIN is counted.
type ending struct {
	resetting
	detached atomic.Bool
}

func (e *ending) Losses() events.Losses {
	if e.detached.Load() {
		return events.Losses{MissedProbes: 9000}
	}
	return events.Losses{LostRecords: 1, MissedProbes: 2, Suppressed: 3}
}

func (e *ending) Counted() map[events.Path]uint64 {
	if e.detached.Load() {
		return map[events.Path]uint64{events.RecvFIN: 9000}
	}
	return map[events.Path]uint64{events.RecvFIN: 4, events.CloseFINActive: 5}
}

func (e *ending) Notes(func(*events.Note)) uint64 { return 0 }

func (e *ending) PeerFIN(*events.Event) (uint64, bool) { return 0, false }

func (e *ending) Detach() error {
	e.detached.Store(true)
	return e.resetting.Detach()
}

// What is scraped while exporters send the rest at the end is what was counted before.
func TestScrapeAtTheEnd(t *testing.T) {
	s := newService(t, 5)
	s.options.ShutdownTimeout = time.Minute
	source := &ending{resetting: resetting{Source: fake.Source{Left: 5}, failure: make(chan error, 1)}}
	s.options.Live.System.Open = func(context.Context, probe.Options) (pipeline.Source, error) { return source, nil }
	flushed := make(chan struct{})
	e := &slowExporter{ended: flushed}
	s.options.Exporters = []Exporter{e}
	s.start()
	s.eventually("all endings are seen", func() bool { return e.seen.Load() == 5 })
	_, before := s.get("/metrics")
	s.end()
	s.eventually("it is detached", source.detached.Load)
	s.eventually("it sends the rest", e.ending.Load)
	_, after := s.get("/metrics")
	of := regexp.MustCompile(`(?m)^closetrace_.*$`)
	was, is := of.FindAllString(before, -1), of.FindAllString(after, -1)
	if len(was) == 0 || !slices.Equal(was, is) {
		t.Errorf("before:\n%s\nat the end:\n%s", strings.Join(was, "\n"), strings.Join(is, "\n"))
	}
	close(flushed)
	if err := s.finish(); err != nil {
		t.Error(err)
	}
}

// If tracing fails, the daemon ends with the reason, for the service manager to start it again.
func TestTracingFails(t *testing.T) {
	s := newService(t, 1)
	s.start()
	s.source.failure <- errors.New("the ring buffer is gone")
	select {
	case err := <-s.ended:
		if err == nil || !strings.Contains(err.Error(), "the ring buffer is gone") {
			t.Errorf("%v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
}
