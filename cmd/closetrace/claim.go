package main

import (
	"net/netip"
	"syscall"

	"github.com/closetrace/closetrace/internal/events"
)

// claim is the sink of closetrace run: it passes on the endings that belong to
// the command. These are
//
//   - calls by a task in the command's cgroup or one below it;
//   - what was nobody's call, or another's, if the process that holds the socket
//     is in there, or if a call of the command's ended or shut down the same
//     connection before or does so later.
//
// So a RST received belongs to the command if it still held the socket when
// that was looked up, or if it closes the socket before it ends. What is not
// claimed then was not known to be the command's.
type claim struct {
	group group
	tell  func(*events.Ending)

	mine    recent[struct{}]        // connections that calls of the command's ended
	waiting recent[[]events.Ending] // what nobody has claimed yet
}

// group is the processes of a command: a [cgroup], or a test's.
type group interface {
	Join(*syscall.SysProcAttr) // begin in it
	Holds(cgroup uint64) bool
	HoldsProcess(pid uint32) bool
	Close() (left int, err error)
}

// connection is one end of a connection.
type connection struct {
	netns         uint32
	local, remote netip.AddrPort
}

// maxClaims bounds what is remembered: other traffic of the machine fills it,
// too.
const maxClaims = 16384

func newClaim(g group, tell func(*events.Ending)) *claim {
	return &claim{group: g, tell: tell, mine: newRecent[struct{}](maxClaims), waiting: newRecent[[]events.Ending](maxClaims)}
}

// Write takes any ending of the machine.
func (c *claim) Write(e *events.Ending) error {
	at := connection{e.Netns, e.Local, e.Remote}
	called := e.Actor != nil && c.group.Holds(e.CgroupID)
	held := !called && e.Owner != nil && c.group.HoldsProcess(e.Owner.PID)
	_, before := c.mine.get(at)
	switch {
	case called || held:
		earlier, _ := c.waiting.get(at)
		for i := range earlier {
			c.tell(&earlier[i])
		}
		if earlier != nil {
			c.waiting.put(at, nil)
		}
		if e.Remote.Port() != 0 { // a listener is no connection
			c.mine.put(at, struct{}{})
		}
		c.tell(e)
	case e.Actor != nil && e.Owner == nil: // somebody else's call
	case before:
		c.tell(e)
	default:
		c.wait(at, e)
	}
	return nil
}

// wait keeps an ending for a later claim. One connection has few, but a port
// that is asked again and again may have many.
func (c *claim) wait(at connection, e *events.Ending) {
	earlier, _ := c.waiting.get(at)
	if len(earlier) == 8 {
		earlier = earlier[1:]
	}
	c.waiting.put(at, append(earlier, *e))
}

// Flush and Close have nothing to do.
func (c *claim) Flush() error { return nil }
func (c *claim) Close() error { return nil }

// recent remembers something of connections, and forgets the oldest first.
type recent[V any] struct {
	of    map[connection]V
	order []connection // a ring
	next  int
}

func newRecent[V any](size int) recent[V] {
	return recent[V]{of: map[connection]V{}, order: make([]connection, size)}
}

func (r *recent[V]) get(at connection) (V, bool) {
	v, ok := r.of[at]
	return v, ok
}

func (r *recent[V]) put(at connection, v V) {
	if _, ok := r.of[at]; !ok {
		delete(r.of, r.order[r.next]) // nothing, until the ring is full
		r.order[r.next] = at
		r.next = (r.next + 1) % len(r.order)
	}
	r.of[at] = v
}
