package serve

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// connections limits how many connections are open. One more takes the place of the one that has been without a request
// for the longest time, so that a client that only keeps connections open does not block the port. It is closed if all
// have a request.
type connections struct {
	most int

	mu   sync.Mutex
	idle map[net.Conn]time.Time // since when; zero: with a request
}

func newConnections(most int) *connections {
	return &connections{most: most, idle: map[net.Conn]time.Time{}}
}

// changed is called by the server with each change of a connection.
func (c *connections) changed(conn net.Conn, to http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, open := c.idle[conn]; !open && to != http.StateNew {
		return // it was closed to make room
	}
	switch to {
	case http.StateNew:
		if len(c.idle) == c.most && !c.closeIdle() {
			conn.Close()
			return
		}
		c.idle[conn] = time.Now()
	case http.StateIdle:
		c.idle[conn] = time.Now()
	case http.StateActive:
		c.idle[conn] = time.Time{}
	default:
		delete(c.idle, conn)
	}
}

// closeIdle closes the connection that has been without a request for the longest time, if there is one.
func (c *connections) closeIdle() bool {
	var longest net.Conn
	for conn, since := range c.idle {
		if !since.IsZero() && (longest == nil || since.Before(c.idle[longest])) {
			longest = conn
		}
	}
	if longest == nil {
		return false
	}
	delete(c.idle, longest)
	longest.Close()
	return true
}
