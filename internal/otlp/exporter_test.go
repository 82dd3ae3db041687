package otlp

import (
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
	err := shutDown(x, 300*time.Millisecond)
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
	if (err == nil) != (x.Dropped() == 0) {
		t.Errorf("%d dropped, and the end says %v", x.Dropped(), err)
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

// The end says how many endings were dropped and why, with the failure of a request that was not cut off by the end.
func TestWhyDropped(t *testing.T) {
	hang := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	for name, test := range map[string]struct {
		answer func(try int, r *http.Request) (*http.Response, error)
		queue  int // of 3 endings
		want   string
	}{
		"takes all": {
			func(int, *http.Request) (*http.Response, error) { return answerWith(http.StatusOK, ""), nil }, 3, "",
		},
		"never answers": {
			func(_ int, r *http.Request) (*http.Response, error) { return hang(r) },
			3, "3 endings dropped: 3 that still waited at the end; the last request failed: no answer until the end",
		},
		"is away, then hangs": {
			func(try int, r *http.Request) (*http.Response, error) {
				if try == 1 {
					return nil, errors.New("connection refused")
				}
				return hang(r)
			}, 3, "3 endings dropped: 3 that still waited at the end; the last request failed: connection refused",
		},
		"has no room for all": {
			func(int, *http.Request) (*http.Response, error) { return answerWith(http.StatusBadGateway, ""), nil },
			2, "3 endings dropped: 1 with the queue full, 2 that still waited at the end; " +
				"the last request failed: HTTP status 502 Bad Gateway",
		},
		"refuses": {
			func(int, *http.Request) (*http.Response, error) { return answerWith(http.StatusBadRequest, ""), nil },
			3, "3 endings dropped: 3 refused by the collector; the last request failed: HTTP status 400 Bad Request",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := made(t, Options{URL: "http://collector"})
				x.queue = make(chan *queued, test.queue)
				tries := 0
				x.sender.client.Transport = transport(func(r *http.Request) (*http.Response, error) {
					tries++
					return test.answer(tries, r)
				})
				for id := range uint64(3) {
					x.Observe(reset(id+1), true)
				}
				x.Begin(header)
				time.Sleep(linger + requestTimeout/2)
				got := ""
				if err := shutDown(x, 300*time.Millisecond); err != nil {
					got = err.Error()
				}
				if got != test.want {
					t.Errorf("%q, want %q", got, test.want)
				}
			})
		})
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
	if err := shutDown(x, 300*time.Millisecond); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("at the end: %v", err)
	}
}
