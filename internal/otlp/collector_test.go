package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	"google.golang.org/protobuf/proto"
)

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

// shutDown ends an exporter within a limit, and returns why endings were dropped.
func shutDown(x *Exporter, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return x.Shutdown(ctx)
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
