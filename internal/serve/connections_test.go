package serve

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// limited is a server with at most two connections, which answers /wait only when the channel is closed.
type limited struct {
	*connections
	address string
	end     chan struct{}
}

func newLimited(t *testing.T) *limited {
	l := &limited{connections: newConnections(2), end: make(chan struct{})}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-l.end
		}
	}))
	server.Config.ConnState = l.changed
	server.Start()
	t.Cleanup(server.Close)
	l.address = server.Listener.Addr().String()
	return l
}

// await waits until so many connections have a request, and as many others none.
func (l *limited) await(t *testing.T, busy, idle int) {
	t.Helper()
	for range 3000 {
		l.mu.Lock()
		open, waiting := len(l.idle), 0
		for _, since := range l.idle {
			if !since.IsZero() {
				waiting++
			}
		}
		l.mu.Unlock()
		if waiting == idle && open-waiting == busy {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not %d connections with a request and %d without", busy, idle)
}

// client is a connection that is kept open.
type client struct {
	net.Conn
	answers *bufio.Reader
}

func (l *limited) dial(t *testing.T) *client {
	t.Helper()
	conn, err := net.Dial("tcp", l.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return &client{conn, bufio.NewReader(conn)}
}

func (c *client) ask(path string) { fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path) }

// answered reports whether an answer comes before the connection is closed.
func (c *client) answered() bool {
	r, err := http.ReadResponse(c.answers, nil)
	return err == nil && r.StatusCode == http.StatusOK
}

// A client that only keeps connections open loses the oldest one to a client with a request.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	l := newLimited(t)
	var kept [2]*client
	for i := range kept {
		kept[i] = l.dial(t)
		if kept[i].ask("/"); !kept[i].answered() {
			t.Fatal("no answer")
		}
		l.await(t, 0, i+1)
	}
	third := l.dial(t)
	if third.ask("/"); !third.answered() {
		t.Error("no answer beyond the limit")
	}
	if kept[0].answered() {
		t.Error("the connection without a request for the longest time is open")
	}
	if kept[1].ask("/"); !kept[1].answered() {
		t.Error("the other one is closed")
	}
}

// A connection that never had a request makes room, too.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	l := newLimited(t)
	for range 20 {
		l.dial(t)
	}
	c := l.dial(t)
	if c.ask("/"); !c.answered() {
		t.Error("no answer beyond the limit")
	}
	l.await(t, 0, 2)
}

// No request is cut off for another one.
func TestRequestsKeepTheirConnection(t *testing.T) {
	l := newLimited(t)
	first, second := l.dial(t), l.dial(t)
	first.ask("/wait")
	second.ask("/wait")
	l.await(t, 2, 0)
	third := l.dial(t)
	if third.ask("/"); third.answered() {
		t.Error("one more than the limit")
	}
	close(l.end)
	if !first.answered() || !second.answered() {
		t.Error("a request was cut off")
	}
}
