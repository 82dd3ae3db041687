package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/closetrace/closetrace/internal/events"
)

// away is how long a test waits for something that takes far less.
const away = 30 * time.Second

var header = events.Header{Host: "web1", BootID: "b007", Kernel: "6.12.0", Attach: "fentry", WallOffsetNS: 1}

// reset is an abnormal ending of a connection.
func reset(id uint64) *events.Ending {
	return &events.Ending{
		Time: time.Unix(1e9, 5), MonoNS: id, Path: events.CloseRSTUnread, Cause: "9 B unread",
		RST: true, Before: events.Established,
		Actor: &events.Task{PID: 7, TID: 7, Comm: "nginx"}, ConnectionID: id,
		Local: netip.MustParseAddrPort("10.0.0.5:443"), Remote: netip.MustParseAddrPort("10.0.0.9:33042"),
		Evidence: events.Evidence{UnreadBytes: 9},
	}
}

// ordinary is an ordinary ending of a connection.
func ordinary(id uint64) *events.Ending {
	e := reset(id)
	e.Path, e.RST, e.FIN, e.Evidence = events.CloseFINActive, false, true, events.Evidence{}
	return e
}

// A collector gets each ending once, with the resource of the host.
func TestExport(t *testing.T) {
	c := newCollector(t)
	x := begun(t, Options{
		URL: c.URL, Headers: map[string]string{"X-Token": "s3cret"}, Resource: map[string]string{"k8s.node.name": "n1"},
	})
	const n = 1500
	for id := range uint64(n) {
		x.Observe(reset(id+1), true)
	}
	awaitExported(x, n)
	shutDown(x, 300*time.Millisecond)
	if s := x.Stats(); s.Exported != n {
		t.Errorf("%+v, want %d exported", s, n)
	}
	got := map[int64]bool{}
	for _, r := range c.requests {
		resource := map[string]string{}
		for _, a := range r.ResourceLogs[0].Resource.Attributes {
			resource[a.Key] = a.Value.GetStringValue()
		}
		for key, want := range map[string]string{
			"host.name": "web1", "os.version": "6.12.0", "service.name": "closetrace", "closetrace.boot_id": "b007",
			"k8s.node.name": "n1",
		} {
			if resource[key] != want {
				t.Errorf("resource has %s=%q, want %q", key, resource[key], want)
			}
		}
		for _, record := range r.ResourceLogs[0].ScopeLogs[0].LogRecords {
			for _, a := range record.Attributes {
				if a.Key == "closetrace.mono_ns" {
					got[a.Value.GetIntValue()] = true
				}
			}
		}
	}
	if len(got) != n || c.records != n {
		t.Errorf("the collector got %d records of %d endings, want %d", c.records, len(got), n)
	}
	for name, want := range map[string]string{"X-Token": "s3cret", "Content-Type": "application/x-protobuf"} {
		if got := c.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if c.path != "/v1/logs" {
		t.Errorf("sent to %s", c.path)
	}
}

// Whatever a collector does, Observe does not wait for it, Shutdown ends within its limit, and each ending is counted.
func TestHostileCollectors(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, answer := range map[string]http.HandlerFunc{
		"hangs": hang,
		"drips": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write([]byte{0})
				w.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write(make([]byte, 1<<16))
			}
		},
		"html": func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "<!DOCTYPE html><title>Log in</title>")
		},
		"half": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			w.Write([]byte{10})
		},
		"resets": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"redirects": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"bad":        status(http.StatusBadRequest),
		"away":       status(http.StatusServiceUnavailable),
		"broken":     status(http.StatusInternalServerError),
		"overloaded": status(http.StatusTooManyRequests),
		"headers": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 1000 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 1000))
			}
		},
		"refuses more than it got": func(w http.ResponseWriter, _ *http.Request) { w.Write(refusing(1 << 40)) },
		"refuses less than none":   func(w http.ResponseWriter, _ *http.Request) { w.Write(refusing(-1)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body) // else the server does not see that the client has gone
				answer(w, r)
			}))
			t.Cleanup(server.Close)
			t.Cleanup(server.CloseClientConnections)
			survives(t, server.URL, name != "refuses less than none")
		})
	}
	t.Run("is not there", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		survives(t, "http://"+l.Addr().String(), true)
	})
	t.Run("speaks no HTTP", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n"))
				go io.Copy(io.Discard, c)
			}
		}()
		survives(t, "http://"+l.Addr().String(), true)
	})
}

// survives sends more than fits into the queue. lost: no ending arrives.
func survives(t *testing.T, url string, lost bool) {
	t.Helper()
	var mu sync.Mutex
	var reported []string
	x := made(t, Options{URL: url, Rate: 1e6, Report: func(err error) {
		mu.Lock()
		defer mu.Unlock()
		reported = append(reported, err.Error())
	}})
	x.queue = make(chan *queued, 2*maxBatch)
	x.Begin(header)
	const n = 5 * maxBatch
	began := time.Now()
	for id := range uint64(n) {
		x.Observe(reset(id+1), true)
	}
	// 2,560 calls of a few microseconds. A request alone may take ten seconds.
	if took := time.Since(began); took > requestTimeout/2 {
		t.Errorf("Observe took %s", took)
	}
	if !lost {
		awaitExported(x, 1)
	}
	began = time.Now()
	shutDown(x, 300*time.Millisecond)
	if took := time.Since(began); took > requestTimeout/2 {
		t.Errorf("Shutdown took %s", took)
	}
	s := x.Stats()
	if got := s.all(); got != n {
		t.Errorf("%d endings counted of %d: %+v", got, n, s)
	}
	if (s.Exported == 0) != lost {
		t.Errorf("%d exported", s.Exported)
	}
	mu.Lock()
	defer mu.Unlock()
	if lost && s.Dropped[DropRejected] > 0 && len(reported) == 0 {
		t.Error("records were refused, and nothing was reported")
	}
	if len(reported) > 3 {
		t.Errorf("reported %d times", len(reported))
	}
}

// all returns how many endings are counted.
func (s Stats) all() uint64 {
	all := s.Exported + s.Collapsed
	for _, n := range s.Dropped {
		all += n
	}
	return all
}

// A failed request is repeated after a pause that doubles, or that the collector asks for. After five minutes it is
// given up.
func TestRetries(t *testing.T) {
	for name, test := range map[string]struct {
		answer    func(try int) (*http.Response, error)
		tries     int // at least
		firstWait [2]time.Duration
		want      func(Stats) bool
	}{
		"recovers": {
			func(try int) (*http.Response, error) {
				if try < 3 {
					return nil, errors.New("connection refused")
				}
				return answerWith(http.StatusOK, ""), nil
			}, 3, [2]time.Duration{minPause / 2, 3 * minPause / 2}, func(s Stats) bool { return s.Exported == 1 },
		},
		"asks to wait": {
			func(try int) (*http.Response, error) {
				if try == 1 {
					return answerWith(http.StatusTooManyRequests, "40"), nil
				}
				return answerWith(http.StatusOK, ""), nil
			}, 2, [2]time.Duration{40 * time.Second, 40 * time.Second}, func(s Stats) bool { return s.Exported == 1 },
		},
		"asks to wait for a year": {
			func(int) (*http.Response, error) { return answerWith(http.StatusServiceUnavailable, "31536000"), nil },
			2, [2]time.Duration{maxAsked, maxAsked}, func(s Stats) bool { return s.Dropped[DropExpired] == 1 },
		},
		"stays away": {
			func(int) (*http.Response, error) { return nil, errors.New("no route to host") },
			10, [2]time.Duration{minPause / 2, 3 * minPause / 2}, func(s Stats) bool { return s.Dropped[DropExpired] == 1 },
		},
		"is broken": {
			func(int) (*http.Response, error) { return answerWith(http.StatusInternalServerError, ""), nil },
			1, [2]time.Duration{}, func(s Stats) bool { return s.Dropped[DropRejected] == 1 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := made(t, Options{URL: "http://collector"})
				var tries []time.Time
				x.sender.client.Transport = transport(func(*http.Request) (*http.Response, error) {
					tries = append(tries, time.Now())
					return test.answer(len(tries))
				})
				x.Begin(header)
				x.Observe(reset(1), true)
				time.Sleep(2 * expiry)
				if s := x.Stats(); !test.want(s) {
					t.Errorf("%+v", s)
				}
				if len(tries) < test.tries || len(tries) > 4*test.tries {
					t.Errorf("%d tries, want %d", len(tries), test.tries)
				}
				if len(tries) > 1 {
					if wait := tries[1].Sub(tries[0]); wait < test.firstWait[0] || wait > test.firstWait[1] {
						t.Errorf("the first pause is %s", wait)
					}
				}
				if over := tries[len(tries)-1].Sub(tries[0]); over > expiry {
					t.Errorf("tried for %s", over)
				}
				shutDown(x, 300*time.Millisecond)
			})
		})
	}
}

// Over the rate, endings that are alike share a record, which has their number. None is lost.
func TestCollapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fakeCollector{t: t}
		x := made(t, Options{URL: "http://collector", Rate: 10})
		x.sender.client.Transport = c
		x.Begin(header)
		const n = 100_000
		for id := range uint64(n) {
			e := reset(id + 1)
			if id%2 == 0 {
				e.Actor = &events.Task{PID: 8, TID: 8, Comm: "other"}
			}
			x.Observe(e, true)
		}
		time.Sleep(2 * window)
		shutDown(x, 300*time.Millisecond)
		if s := x.Stats(); s.Exported != 12 || s.Collapsed != n-12 || s.all() != n {
			t.Errorf("%+v, want 12 records for %d endings", s, n)
		}
		var collapsed int64
		for _, record := range c.all() {
			for _, a := range record.Attributes {
				if a.Key == "closetrace.collapsed" {
					collapsed += a.Value.GetIntValue()
				}
			}
		}
		if c.records != 12 || collapsed != n-12 {
			t.Errorf("the collector got %d records that stand for %d others", c.records, collapsed)
		}
	})
}

// Endings that are not alike have room for a bounded number of records.
func TestCollapseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := made(t, Options{URL: "http://collector", Rate: 1})
		x.sender.client.Transport = &fakeCollector{t: t}
		x.Begin(header)
		const n = 10_000
		for id := range uint64(n) {
			e := reset(id + 1)
			e.Cgroup = fmt.Sprint("/", id)
			x.Observe(e, true)
		}
		shutDown(x, 300*time.Millisecond)
		if s := x.Stats(); s.Exported != 1+maxGroups || s.Dropped[DropRate] != n-1-maxGroups {
			t.Errorf("%+v", s)
		}
	})
}

// Both hosts send the ordinary endings of the same connections, about as many as asked for, and all abnormal ones.
func TestSample(t *testing.T) {
	a, b := made(t, Options{URL: "http://a", Sample: 0.25}), made(t, Options{URL: "http://b", Sample: 0.25})
	kept := 0
	const n = 10_000
	for i := range uint64(n) {
		id := i * 0x9e3779b97f4a7c15 // as spread as the ids of connections
		if a.selects(ordinary(id)) != b.selects(ordinary(id)) {
			t.Fatalf("connection %x is sent by one end only", id)
		}
		if a.selects(ordinary(id)) {
			kept++
		}
		if !a.selects(reset(id)) {
			t.Fatalf("a reset is not sent")
		}
	}
	if kept < n/5 || kept > n/3 {
		t.Errorf("%d of %d are sent", kept, n)
	}
	for sample, want := range map[float64]bool{0: false, 1: true} {
		x := made(t, Options{URL: "http://a", Sample: sample})
		if got := x.selects(ordinary(1<<64 - 1)); got != want {
			t.Errorf("with %v an ordinary ending is sent: %v", sample, got)
		}
		if x.selects(ordinary(0)) {
			t.Error("an ordinary ending without an id is sent: the other end does not decide alike")
		}
	}
}

func TestEndpoint(t *testing.T) {
	const store = "http://c/insert/opentelemetry/v1/logs?_stream_fields=host.name"
	for text, want := range map[string]string{
		"http://c:4318": "http://c:4318/v1/logs", "https://c/": "https://c/v1/logs",
		store:    store,
		"c:4318": "", "ftp://c": "", "http://": "", "http://c/#x": "", "": "", "http://u:s3cret@c\x00": "",
	} {
		u, err := Endpoint(text)
		if got := fmt.Sprint(u); err == nil && got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %s, %v", text, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v shows a password", err)
		}
	}
}

// A report shows neither the password nor the query of the URL, which may hold a token.
func TestReportsNoSecrets(t *testing.T) {
	reported := make(chan error, 9)
	x := begun(t, Options{URL: "http://u:s3cret@127.0.0.1:1/?token=s3cret", Report: func(err error) { reported <- err }})
	x.Observe(reset(1), true)
	select {
	case err := <-reported:
		if text := err.Error(); strings.Contains(text, "s3cret") || !strings.Contains(text, "127.0.0.1:1") {
			t.Errorf("reported: %s", text)
		}
	case <-time.After(away):
		t.Error("nothing is reported of a collector that is not there")
	}
	shutDown(x, 300*time.Millisecond)
}

func TestParseList(t *testing.T) {
	got, err := ParseList(HeadersVariable, "authorization=Bearer%20a%3Db, x = 1 ,,y=")
	if want := "map[authorization:Bearer a=b x:1 y:]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, %v, want %s", got, err, want)
	}
	for _, bad := range []string{"x", "=1", "x=%zz"} {
		if _, err := ParseList(HeadersVariable, bad); err == nil || strings.Contains(err.Error(), "zz") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"7": 7 * time.Second, "Sun, 29 Nov 2026 12:00:09 GMT": 9 * time.Second, "Sun, 29 Nov 2020 12:00:09 GMT": 0,
		"": 0, "-1": 0, "soon": 0, "99999999999999999999": 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}

// made returns an exporter that has not begun.
func made(t *testing.T, o Options) *Exporter {
	t.Helper()
	x, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// awaitExported waits until the collector took n endings, or for long enough.
func awaitExported(x *Exporter, n uint64) {
	for began := time.Now(); x.Stats().Exported < n && time.Since(began) < away; {
		time.Sleep(10 * time.Millisecond)
	}
}

// shutDown ends an exporter within a limit.
func shutDown(x *Exporter, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	x.Shutdown(ctx)
}

func begun(t *testing.T, o Options) *Exporter {
	t.Helper()
	x := made(t, o)
	x.Begin(header)
	return x
}

// fakeCollector is a collector as a server and, in tests with a fake clock, as a transport.
type fakeCollector struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	requests []*collector.ExportLogsServiceRequest
	records  int
	header   http.Header
	path     string
}

func newCollector(t *testing.T) *fakeCollector {
	c := &fakeCollector{t: t}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { c.take(r) }))
	t.Cleanup(c.Server.Close)
	return c
}

func (c *fakeCollector) take(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.header, c.path = r.Header, r.URL.Path
	zipped, err := gzip.NewReader(r.Body)
	if err != nil {
		c.t.Error(err)
		return
	}
	body, err := io.ReadAll(zipped)
	request := new(collector.ExportLogsServiceRequest)
	if err = errors.Join(err, proto.Unmarshal(body, request)); err != nil {
		c.t.Error(err)
		return
	}
	c.requests = append(c.requests, request)
	c.records += len(request.ResourceLogs[0].ScopeLogs[0].LogRecords)
}

// all returns the records of all requests.
func (c *fakeCollector) all() (all []*logs.LogRecord) {
	for _, r := range c.requests {
		all = append(all, r.ResourceLogs[0].ScopeLogs[0].LogRecords...)
	}
	return all
}

// RoundTrip takes a request.
func (c *fakeCollector) RoundTrip(r *http.Request) (*http.Response, error) {
	c.take(r)
	return answerWith(http.StatusOK, ""), nil
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answerWith(code int, retryAfter string) *http.Response {
	return &http.Response{
		StatusCode: code, Header: http.Header{"Retry-After": {retryAfter}}, Body: io.NopCloser(bytes.NewReader(nil)),
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// refusing is the answer of a collector that refused a number of records.
func refusing(n int64) []byte {
	answer, err := proto.Marshal(&collector.ExportLogsServiceResponse{
		PartialSuccess: &collector.ExportLogsPartialSuccess{RejectedLogRecords: n},
	})
	if err != nil {
		panic(err)
	}
	return answer
}
