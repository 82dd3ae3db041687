package runtimes

import (
	"log/slog"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

const (
	// Patience is how long an event may wait for an answer. One that is later
	// serves later events.
	Patience = 50 * time.Millisecond
	// maxAsked is how many questions there are at a time.
	maxAsked = 4
	// rest is how long a runtime is not asked again that failed.
	rest = 10 * time.Second
	// maxKnown bounds what is remembered: some MB.
	maxKnown = 4096
)

// Names finds what containers are called. A runtime is asked once for a container,
// beside the stream of events: an event waits for an answer only if no other is
// under way, so that a runtime that does not answer holds up one event of each
// [limit]. Not for concurrent use.
type Names struct {
	ask      func(events.Container) (*events.ContainerNames, error)
	patience time.Duration
	log      *slog.Logger

	known   map[string]*events.ContainerNames // by id; nil: no names, or none yet
	asked   int                               // questions under way
	answers chan answer
	resting map[string]time.Time // until when, by runtime
}

type answer struct {
	container events.Container
	names     *events.ContainerNames
	err       error
}

// New asks these runtimes, and says on log, once of each, that one fails. What an
// event may wait is [Patience], but for tests.
func New(apis []*API, patience time.Duration, log *slog.Logger) *Names {
	return &Names{
		ask:      func(c events.Container) (*events.ContainerNames, error) { return Ask(apis, c) },
		patience: patience, log: log,
		known: map[string]*events.ContainerNames{}, answers: make(chan answer, maxAsked), resting: map[string]time.Time{},
	}
}

// Fill names the container that the socket of an event belongs to.
func (n *Names) Fill(ev *events.Event) {
	path := ev.SocketCgroupPath()
	if ev.SocketCgroupID == 0 {
		path = ev.Cgroup
	}
	c := events.ContainerOf(path)
	if c.ID == "" || c.Runtime == "lxc" { // whose ids are names
		return
	}
	n.collect(0)
	if _, known := n.known[c.ID]; !known && n.asked < maxAsked && !time.Now().Before(n.resting[c.Runtime]) {
		n.begin(c)
		if n.asked == 1 {
			n.collect(n.patience)
		}
	}
	ev.ContainerNames = n.known[c.ID]
}

// begin asks.
func (n *Names) begin(c events.Container) {
	if len(n.known) >= maxKnown {
		clear(n.known)
	}
	n.known[c.ID] = nil
	n.asked++
	go func() {
		names, err := n.ask(c)
		n.answers <- answer{c, names, err}
	}()
}

// collect takes the answers that there are, and if there is none, the first that
// comes in time.
func (n *Names) collect(wait time.Duration) {
	for n.asked > 0 {
		select {
		case a := <-n.answers:
			n.take(a)
			wait = 0
			continue
		default:
		}
		if wait <= 0 {
			return
		}
		select {
		case a := <-n.answers:
			n.take(a)
		case <-time.After(wait):
		}
		wait = 0
	}
}

func (n *Names) take(a answer) {
	n.asked--
	if a.err == nil {
		n.known[a.container.ID] = a.names
		return
	}
	delete(n.known, a.container.ID) // to be asked again
	of := a.container.Runtime
	if _, said := n.resting[of]; !said {
		whose := of
		if of == "" {
			whose = "any runtime"
		}
		n.log.Warn("names of containers are missing that were to come from "+whose, "because", a.err)
	}
	n.resting[of] = time.Now().Add(rest)
}
