package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/version"
)

const (
	// requestTimeout bounds a request, with its answer.
	requestTimeout = 10 * time.Second
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 64 << 10
	// maxHeader bounds the headers of an answer.
	maxHeader = 64 << 10

	scope = "github.com/closetrace/closetrace"
)

// retryError is a failure after which the same request may succeed.
type retryError struct {
	error
	after time.Duration // for how long the collector asks to wait; 0: it does not say
}

// Unwrap returns the failure.
func (r *retryError) Unwrap() error { return r.error }

// sender sends requests to a collector. Not for concurrent use.
type sender struct {
	url      string
	shown    string // the same without a password
	headers  map[string]string
	client   *http.Client
	resource *resource.Resource
	onError  func(error)
	reported map[string]bool // kinds of errors, since the last success
	failure  error           // of the last request; nil if that succeeded
}

func newSender(o Options) (*sender, error) {
	to, err := Endpoint(o.URL)
	if err != nil {
		return nil, err
	}
	shown := *to
	shown.RawQuery = ""
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxResponseHeaderBytes: maxHeader, MaxIdleConnsPerHost: 1,
		IdleConnTimeout: time.Minute, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		DisableCompression: true, // an answer is short, and might be long once decompressed
	}
	return &sender{
		url: to.String(), shown: shown.Redacted(), headers: o.Headers, onError: o.Report, reported: map[string]bool{},
		client: &http.Client{
			Transport: transport, Timeout: requestTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Endpoint returns where logs go. A URL without a path is that of a collector, whose path for logs is /v1/logs.
func Endpoint(text string) (*url.URL, error) {
	bad := func(why string) error {
		return hint.New(hint.Usage, "invalid URL of a collector: "+why, "for example http://127.0.0.1:4318")
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, bad("it cannot be parsed") // err would show a password
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, bad(fmt.Sprintf("the scheme %q is neither http nor https", u.Scheme))
	case u.Host == "":
		return nil, bad("it has no host")
	case u.Fragment != "":
		return nil, bad("it has a fragment")
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/logs"
	}
	return u, nil
}

// request returns the compressed body of a request.
func (s *sender) request(records []*logs.LogRecord) ([]byte, error) {
	body, err := proto.Marshal(&collector.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{{
		Resource: s.resource,
		ScopeLogs: []*logs.ScopeLogs{{
			Scope: &common.InstrumentationScope{Name: scope, Version: version.Build().Version}, LogRecords: records,
		}},
	}}})
	if err != nil {
		return nil, err // a text that is not UTF-8, which textValue excludes
	}
	var compressed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&compressed, gzip.BestSpeed) // fails for an unknown level only
	w.Write(body)                                            // writing to memory does not fail
	w.Close()
	return compressed.Bytes(), nil
}

// send sends a request and returns how many records the collector refused of it. A [retryError] means that the same
// request may succeed later.
func (s *sender) send(ctx context.Context, body []byte) (refused uint64, err error) {
	status := "no answer"
	defer func() {
		s.remember(refused, err)
		var again *retryError
		switch {
		case err == nil && refused == 0:
			clear(s.reported)
		case ctx.Err() == nil || !errors.As(err, &again): // a refusal is one also if ctx has ended meanwhile
			s.report(status, err)
		}
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	for name, value := range s.headers {
		request.Header.Set(name, value)
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	request.Header.Set("Content-Encoding", "gzip")
	request.Header.Set("User-Agent", "closetrace/"+version.Build().Version)
	answer, err := s.client.Do(request)
	if err != nil {
		return 0, &retryError{error: withoutURL(err)}
	}
	defer answer.Body.Close()
	status = strconv.Itoa(answer.StatusCode)
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch code := answer.StatusCode; {
	case code == http.StatusTooManyRequests || code == http.StatusBadGateway ||
		code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout:
		return 0, &retryError{errors.New(describe(code)), retryAfter(answer.Header.Get("Retry-After"), time.Now())}
	case code < 200 || code > 299:
		return 0, errors.New(describe(code))
	case err != nil:
		return 0, &retryError{error: withoutURL(err)} // it may have the records: they may arrive twice
	case len(text) > maxAnswer:
		return 0, errors.New("the answer is too long for a collector")
	}
	return refusedIn(text)
}

// refusedIn reads the answer of a collector that took a request.
func refusedIn(text []byte) (refused uint64, err error) {
	var answer collector.ExportLogsServiceResponse
	if proto.Unmarshal(text, &answer) != nil {
		return 0, errors.New("the answer is not that of a collector")
	}
	return uint64(max(0, answer.GetPartialSuccess().GetRejectedLogRecords())), nil
}

func describe(code int) string {
	return strings.TrimSpace(fmt.Sprintf("HTTP status %d %s", code, http.StatusText(code)))
}

// withoutURL returns the reason of an error of the HTTP client, which begins with the URL.
func withoutURL(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}

var (
	errRefused  = errors.New("the collector refused some records")
	errNoAnswer = errors.New("no answer until the end")
)

// remember keeps why the last request failed. A request that the end has cut off does not replace the failure of
// another one before.
func (s *sender) remember(refused uint64, err error) {
	switch {
	case err == nil && refused > 0:
		err = errRefused
	case errors.Is(err, context.Canceled) && s.failure != nil:
		return
	case errors.Is(err, context.Canceled):
		err = errNoAnswer
	}
	s.failure = err
}

// report reports an error, unless one of its kind was reported since the last success.
func (s *sender) report(kind string, err error) {
	if s.onError == nil || s.reported[kind] {
		return
	}
	s.reported[kind] = true
	if err == nil {
		err = errRefused
	}
	s.onError(&hint.Error{
		What: "exporting to " + s.shown, Err: err,
		Hint: "check the collector; what it does not take is counted in closetrace_export_dropped_total",
	})
}

// retryAfter returns the time that a Retry-After header asks for: seconds, or a date.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(header); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// jitter returns a random time about pause, so that a thousand hosts do not try at once.
func jitter(pause time.Duration) time.Duration {
	return pause/2 + rand.N(pause)
}
