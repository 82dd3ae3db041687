package serve

import (
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/closetrace/closetrace/internal/hint"
)

// The limits of the server. Its clients are a scraper and a few people.
const (
	maxConnections = 64
	requestTimeout = 10 * time.Second
	idleTimeout    = 2 * time.Minute // longer than most scrape intervals
	maxHeader      = 8 << 10
	maxCopies      = 4 // of the last endings at once: each may be as large as all of them
)

// DefaultListen is the address at which requests are answered, unless the user chooses another one.
const DefaultListen = "127.0.0.1:9740"

// listen begins to listen, before anything is attached: an address in use is the most frequent mistake.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &hint.Error{
			What: "another process listens on " + address, Hint: "choose another address: --listen 127.0.0.1:9741",
		}
	case err != nil:
		return nil, &hint.Error{
			What: "cannot listen on " + address, Err: errors.Unwrap(err),
			Hint: "use --listen HOST:PORT with an address of this host",
		}
	}
	return l, nil
}

// newServer returns the server of a daemon that listens at an address.
func newServer(d *daemon, at net.Addr) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", d.metrics.Handler())
	mux.HandleFunc("GET /healthz", d.healthy)
	mux.HandleFunc("GET /readyz", d.ready)
	mux.Handle("GET /debug/last", atOnce(maxCopies, http.HandlerFunc(d.debugLast)))
	mux.HandleFunc("GET /{$}", index)
	handler := d.onceTracing(mux)
	if tcp, ok := at.(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		handler = onlyLocal(handler)
	}
	return &http.Server{
		Handler: handler, ErrorLog: log.New(io.Discard, "", 0), MaxHeaderBytes: maxHeader,
		ReadTimeout: requestTimeout, ReadHeaderTimeout: requestTimeout, WriteTimeout: 2 * requestTimeout,
		IdleTimeout: idleTimeout, ConnState: newConnections(maxConnections).changed,
	}
}

// onceTracing refuses requests until endings are traced. Loading the programs takes a quarter of a second, and a minute
// on a slow or busy machine.
func (d *daemon) onceTracing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.tracing.Load() {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// onlyLocal refuses requests for host names other than localhost. A web page may make the name of its own host one of
// this machine, and a browser then lets it read the answer. Without a host the request is of no browser, but for
// example of a health check in HTTP/1.0.
func onlyLocal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.Trim(r.Host, "[]")
		}
		if host != "" && !strings.EqualFold(host, "localhost") && net.ParseIP(host) == nil {
			http.Error(w, "ask for an address or localhost", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// atOnce refuses requests beyond a number of them at once.
func atOnce(most int, next http.Handler) http.Handler {
	running := make(chan struct{}, most)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case running <- struct{}{}:
			defer func() { <-running }()
			next.ServeHTTP(w, r)
		default:
			http.Error(w, fmt.Sprintf("%d requests at once are enough", most), http.StatusServiceUnavailable)
		}
	})
}

// index lists the endpoints.
func index(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, "closetrace\n\n/metrics     for Prometheus\n/debug/last  the last abnormal endings, as JSON\n"+
		"/healthz     200 while events are read\n/readyz      200 while tracing\n")
}

// healthy answers whether events are read. If they are not, only a restart helps.
func (d *daemon) healthy(w http.ResponseWriter, _ *http.Request) {
	if !d.pulse.beats(maxSilence) {
		http.Error(w, fmt.Sprintf("no event was read and none was waited for in %s", maxSilence),
			http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// ready answers whether endings are traced.
func (d *daemon) ready(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	stopping := d.stopping
	d.mu.Unlock()
	if stopping {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	d.healthy(w, r)
}

// debugLast answers with the last abnormal endings, n=N of them if that is asked for.
func (d *daemon) debugLast(w http.ResponseWriter, r *http.Request) {
	most := math.MaxInt
	if text := r.URL.Query().Get("n"); text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			http.Error(w, "n must be a number", http.StatusBadRequest)
			return
		}
		most = int(n)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(d.last.appendJSON(nil, most)) // the client may have gone
}
