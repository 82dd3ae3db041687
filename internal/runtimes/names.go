package runtimes

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

const (
	// AnswerTimeout is how long an event may wait for an answer. Later events use an
	// answer that comes later.
	AnswerTimeout = 50 * time.Millisecond
	// maxRequests is the maximum number of requests at a time.
	maxRequests = 4
	// retryInterval is how long after a failure a runtime is not asked.
	retryInterval = 10 * time.Second
	// maxNames is the maximum number of names in memory, some MB.
	maxNames = 4096
)

// Names finds the names of containers. It asks a runtime once per container, next to
// the stream of events: an event waits for an answer only if no other request is in
// flight, so that a runtime that does not answer delays one event per [limit]. Names
// must not be used concurrently.
type Names struct {
	ask     func(events.Container) (*events.ContainerNames, error)
	timeout time.Duration
	log     *slog.Logger

	names    map[string]*events.ContainerNames // by id; nil: no names, or none yet
	inFlight int                               // requests
	answers  chan answer
	retryAt  map[string]time.Time // by runtime whose failure was logged
}

type answer struct {
	container events.Container
	names     *events.ContainerNames
	err       error
}

// New returns the names that apis have. It logs the first failure of each runtime, unless [Absent] has returned it.
// timeout is how long an event may wait: [AnswerTimeout], except in tests.
func New(apis []*API, timeout time.Duration, log *slog.Logger) *Names {
	n := &Names{
		ask:     func(c events.Container) (*events.ContainerNames, error) { return Ask(apis, c) },
		timeout: timeout, log: log,
		names: map[string]*events.ContainerNames{}, answers: make(chan answer, maxRequests), retryAt: map[string]time.Time{},
	}
	for _, a := range apis {
		if a.absent {
			n.retryAt[a.Runtime], n.retryAt[""] = time.Time{}, time.Time{}
		}
	}
	return n
}

// Resolve sets the names of the container that the socket of an event belongs to.
func (n *Names) Resolve(ev *events.Event) {
	path := ev.SocketCgroupPath()
	if ev.SocketCgroupID == 0 {
		path = ev.Cgroup
	}
	c := events.ContainerOf(path)
	if c.ID == "" || c.Runtime == "lxc" { // its ids are names
		return
	}
	n.collect(0)
	if _, found := n.names[c.ID]; !found && n.inFlight < maxRequests && !time.Now().Before(n.retryAt[c.Runtime]) {
		n.begin(c)
		if n.inFlight == 1 {
			n.collect(n.timeout)
		}
	}
	ev.ContainerNames = n.names[c.ID]
}

// begin starts a request.
func (n *Names) begin(c events.Container) {
	if len(n.names) >= maxNames {
		clear(n.names)
	}
	n.names[c.ID] = nil
	n.inFlight++
	go func() {
		names, err := n.ask(c)
		n.answers <- answer{c, names, err}
	}()
}

// collect keeps the answers that are there, or if there is none, waits for the first.
func (n *Names) collect(wait time.Duration) {
	for n.inFlight > 0 {
		select {
		case a := <-n.answers:
			n.keep(a)
			wait = 0
			continue
		default:
		}
		if wait <= 0 {
			return
		}
		select {
		case a := <-n.answers:
			n.keep(a)
		case <-time.After(wait):
		}
		wait = 0
	}
}

func (n *Names) keep(a answer) {
	n.inFlight--
	if a.err == nil {
		n.names[a.container.ID] = a.names
		return
	}
	delete(n.names, a.container.ID) // ask again
	runtime := a.container.Runtime
	if _, logged := n.retryAt[runtime]; !logged {
		n.log.Warn("cannot get container names from "+cmp.Or(runtime, "any runtime"), "because", a.err)
	}
	n.retryAt[runtime] = time.Now().Add(retryInterval)
}
