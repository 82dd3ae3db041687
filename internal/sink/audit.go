package sink

import (
	"fmt"
	"strings"

	"github.com/closetrace/closetrace/internal/events"
)

// Counters are a network namespace's own, by nstat's names without "TcpExt".
type Counters map[string]uint64

// Audit compares the endings of one network namespace with how far that
// namespace's own counters moved meanwhile: every RST that the kernel says it
// sent has to be explained by an ending.
//
// RSTs that do not come from TCP, as those of netfilter's REJECT, are neither
// counted there nor seen here.
type Audit struct {
	Netns uint32 // whose endings these are
	// Impossible is why there is nothing to compare; empty if there is.
	Impossible string
	// Moved is the movement from before attaching until after detaching, Edges
	// the part of it that fell into attaching and detaching.
	Moved, Edges Counters
	// Missing are the hooks that could not be attached.
	Missing []string
	// ByTracepoint: a kernel before 6.10 does not tell of RSTs in reply where
	// there is no socket.
	ByTracepoint bool

	explained [len(audited)]uint64
	replies   bool   // such a RST was seen all the same
	elsewhere uint64 // endings of other namespaces
}

// audited are the counters that tell of resets, and which endings move them.
var audited = [...]struct {
	counter string
	name    string // in the line
	moves   func(*events.Ending) bool
}{
	{"TcpOutRsts", "RSTs sent", func(e *events.Ending) bool { return e.RST }},
	{"TcpEstabResets", "resets of connections (EstabResets)", cutShort},
	{"TCPAbortOnClose", "TCPAbortOnClose", func(e *events.Ending) bool { return e.RST && e.Path == "close.rst.unread" }},
	{"TCPAbortOnData", "TCPAbortOnData", discards},
	{"TCPAbortOnLinger", "TCPAbortOnLinger", func(e *events.Ending) bool { return e.Path == "close.rst.linger2" }},
	{"TCPAbortOnTimeout", "TCPAbortOnTimeout", givesUp},
	{"TCPAbortOnMemory", "TCPAbortOnMemory", func(e *events.Ending) bool {
		return e.Path == "close.rst.oom" || e.Path == "abort.orphan.oom"
	}},
}

// failed counts RSTs that TCP made and could not send. It has them in
// TcpOutRsts, too.
const failed = "TCPAbortFailed"

// cutShort: an open connection went to CLOSE without a FIN of this side. Of a
// child of a listener that was closed unseen, the state before is not known, but
// only an open one is reset.
func cutShort(e *events.Ending) bool {
	open := e.Before == events.Established || e.Before == events.CloseWait ||
		e.Path == "close.rst.accept-queue-child"
	return open && !e.FIN && (e.RST || e.After == events.Close)
}

// discards: SO_LINGER {1,0} counts at every close that it decides, even if no
// RST is sent, and so do the resets in reply to data after close or shutdown.
func discards(e *events.Ending) bool {
	switch e.Path {
	case "close.rst.linger0", "close.rst.linger0-unsent", "close.silent.linger0",
		"close.rst.linger2-late", "shutdown.rdwr.data", "reply.data-after-close", "reply.fin1-ooo":
		return true
	case "close.silent.synsent":
		return e.Evidence.LingerOn && e.Evidence.Linger == 0
	}
	return false
}

// givesUp: the paths through tcp_write_err.
func givesUp(e *events.Ending) bool {
	switch e.Path {
	case "abort.keepalive", "abort.keepalive.user-timeout", "abort.user-timeout",
		"abort.retrans-timeout", "abort.synack-timeout", "abort.orphan.retries":
		return true
	}
	return false
}

// Add counts e.
func (a *Audit) Add(e *events.Ending) {
	if e.Netns != a.Netns {
		a.elsewhere++
		return
	}
	if !e.RST && e.After != events.Close {
		return // in good order so far, as most: it moves none of them
	}
	a.replies = a.replies || e.Path == "reply.nosocket"
	for i := range audited {
		if audited[i].moves(e) {
			a.explained[i]++
		}
	}
}

// Explained returns how far the endings should have moved each counter.
func (a *Audit) Explained() Counters {
	all := Counters{}
	for i, c := range audited {
		all[c.counter] = a.explained[i]
	}
	return all
}

// line is the outcome. s says what was lost.
func (a *Audit) line(s *Summary) string {
	if a.Impossible != "" {
		return "audit: not possible: " + a.Impossible
	}
	var said []string
	for i, c := range audited {
		moved, explained := a.Moved[c.counter], a.explained[i]
		if i > 1 && moved == 0 && explained == 0 {
			continue // the first two are what it is about
		}
		said = append(said, fmt.Sprintf("%s %s, explained %s", c.name, grouped(moved), grouped(explained)))
	}
	if n := a.Moved[failed]; n > 0 {
		said = append(said, grouped(n)+" of the RSTs could not be sent ("+failed+")")
	}
	if why := a.difference(s); why != "" {
		said = append(said, why)
	}
	if a.elsewhere > 0 {
		said = append(said, plural(a.elsewhere, "ending", "endings")+" of other network namespaces not compared")
	}
	return "audit: " + strings.Join(said, "; ")
}

// difference says where the difference may come from, if there is one.
func (a *Audit) difference(s *Summary) string {
	var edges, short, surplus bool
	for i, c := range audited {
		moved, explained := a.Moved[c.counter], a.explained[i]
		switch {
		case moved > explained+a.Edges[c.counter]:
			short = true
		case moved > explained:
			edges = true
		case moved < explained:
			surplus = true
		}
	}
	causes := a.unseen(s)
	switch {
	case short && len(causes) > 0:
		return "the difference may be " + strings.Join(causes, ", ")
	case short, surplus:
		return "the cause of the difference is not known"
	case edges:
		return "the difference is what happened while attaching and detaching"
	}
	return ""
}

// unseen is what may have kept endings from being told.
func (a *Audit) unseen(s *Summary) []string {
	var causes []string
	add := func(n uint64, one, many string) {
		if n > 0 {
			causes = append(causes, plural(n, one, many))
		}
	}
	add(s.LostRecords, "lost record", "lost records")
	add(s.MissedProbes, "missed probe", "missed probes")
	add(s.Suppressed, "RST in reply beyond the rate", "RSTs in reply beyond the rate")
	add(s.Undecodable, "record not decoded", "records not decoded")
	add(s.Unexplained, "event not explained", "events not explained")
	if len(a.Missing) > 0 {
		causes = append(causes, "hooks that are missing here ("+strings.Join(a.Missing, ", ")+")")
	}
	if a.ByTracepoint && !a.replies {
		causes = append(causes, "RSTs in reply where there is no socket, which this kernel may not tell of")
	}
	return causes
}
