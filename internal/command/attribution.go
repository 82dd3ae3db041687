package command

import (
	"net/netip"
	"syscall"

	"github.com/closetrace/closetrace/internal/events"
)

// Attribution finds the endings of the command among those of the machine, and
// passes them on. These are
//
//   - calls by a task in the command's cgroup or one below it;
//   - endings without a call of the command, if the process that holds the socket
//     is in the cgroup, or if a call of the command ended or shut down the same
//     connection before or does so later.
//
// So a received RST belongs to the command if the command still held the socket
// when the holder was looked up, or if it closes the socket before it exits.
// Attribution drops endings for which neither became known.
type Attribution struct {
	group Group
	emit  func(*events.Ending)

	ended   recent[struct{}]        // connections that calls of the command ended
	pending recent[[]events.Ending] // endings that may still turn out to be the command's
}

// Group is the processes of a command: a [Cgroup], or a test's.
type Group interface {
	Join(*syscall.SysProcAttr) // makes a process start in the group
	Contains(cgroup uint64) bool
	ContainsProcess(pid uint32) bool
	// Close dissolves the group. It returns how many processes were left in it.
	Close() (left int, err error)
}

// connection is one end of a connection.
type connection struct {
	netns         uint32
	local, remote netip.AddrPort
}

// maxConnections bounds what is remembered, because all traffic of the machine
// fills it.
const maxConnections = 16384

// maxPending is how many endings wait per connection: a connection has few, but
// many replies can come from one port.
const maxPending = 8

// NewAttribution returns an attribution that passes endings on to emit.
func NewAttribution(g Group, emit func(*events.Ending)) *Attribution {
	return &Attribution{
		group: g, emit: emit,
		ended: newRecent[struct{}](maxConnections), pending: newRecent[[]events.Ending](maxConnections),
	}
}

// Write accepts any ending of the machine.
func (a *Attribution) Write(e *events.Ending) error {
	c := connection{e.Netns, e.Local, e.Remote}
	called := e.Actor != nil && a.group.Contains(e.CgroupID)
	held := !called && e.Owner != nil && a.group.ContainsProcess(e.Owner.PID)
	_, before := a.ended.get(c)
	switch {
	case called || held:
		earlier, _ := a.pending.get(c)
		for i := range earlier {
			a.emit(&earlier[i])
		}
		if earlier != nil {
			a.pending.put(c, nil)
		}
		if e.Remote.Port() != 0 { // a listener is no connection
			a.ended.put(c, struct{}{})
		}
		a.emit(e)
	case e.Actor != nil && e.Owner == nil: // a call of another process
	case before:
		a.emit(e)
	default:
		a.postpone(c, e)
	}
	return nil
}

// postpone keeps an ending until a call shows that it is the command's.
func (a *Attribution) postpone(c connection, e *events.Ending) {
	earlier, _ := a.pending.get(c)
	if len(earlier) == maxPending {
		earlier = earlier[1:]
	}
	a.pending.put(c, append(earlier, *e))
}

// Flush does nothing.
func (a *Attribution) Flush() error { return nil }

// Close does nothing.
func (a *Attribution) Close() error { return nil }

// recent is a map of connections that drops the oldest one when it is full.
type recent[V any] struct {
	values map[connection]V
	order  []connection // a ring
	next   int
}

func newRecent[V any](size int) recent[V] {
	return recent[V]{values: map[connection]V{}, order: make([]connection, size)}
}

func (r *recent[V]) get(c connection) (V, bool) {
	v, ok := r.values[c]
	return v, ok
}

func (r *recent[V]) put(c connection, v V) {
	if _, ok := r.values[c]; !ok {
		delete(r.values, r.order[r.next]) // the zero connection until the ring is full
		r.order[r.next] = c
		r.next = (r.next + 1) % len(r.order)
	}
	r.values[c] = v
}
