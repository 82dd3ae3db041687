package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
)

// audit reads a network namespace's counters around a run: before attaching,
// once attached, before detaching and after it. What moved while closetrace was
// attached has to be explained, what moved just before or after may be.
type audit struct {
	sink.Audit
	path  string // of the namespace's file, if it is not this process's own
	read  func() (sink.Counters, error)
	marks []sink.Counters
}

// Why there may be nothing to compare.
const (
	filtersUncounted = "the counters know nothing of filters by process, cgroup, port or family"
	countEnded       = "--count ended the run, not all that happened was looked at"
)

// newAudit is of the namespace that the run is limited to, or of this process's
// own.
func (t *traceFlags) newAudit(e *env) *audit {
	own, err := e.finder.inode(filepath.Join(e.finder.proc, "self/ns/net"))
	a := &audit{Audit: sink.Audit{Netns: own}}
	switch {
	case err != nil:
		a.Impossible = err.Error()
	case t.filter.narrow():
		a.Impossible = filtersUncounted
	case t.filter.Netns == 0 || t.filter.Netns == own:
	case strings.HasPrefix(t.filter.netns, "inode:"):
		a.Impossible = "a namespace given by its inode number cannot be entered; --netns takes a name, a path or a process id"
	default:
		a.Netns = t.filter.Netns
		a.path, _ = e.finder.netnsPath(t.filter.netns)
	}
	a.read = func() (sink.Counters, error) { return e.counters(a.path, a.Netns) }
	return a
}

// entersNetns: the counters are in another namespace than this process.
func (a *audit) entersNetns() bool { return a.Impossible == "" && a.path != "" }

// mark reads the counters.
func (a *audit) mark() {
	if a.Impossible != "" {
		return
	}
	now, err := a.read()
	if err != nil {
		a.Impossible = fmt.Sprintf("reading the counters: %v", err)
	}
	a.marks = append(a.marks, now)
}

// finish works out what moved while the stream flowed.
func (a *audit) finish(s *stream) {
	h := s.source.Header()
	a.Missing, a.ByTracepoint = h.Missing, h.Attach == string(probe.Tracepoint)
	switch {
	case a.Impossible != "":
	case len(a.marks) != 4:
		a.Impossible = "tracing did not end in good order"
	case s.full():
		a.Impossible = countEnded
	default:
		first, attached, detaching, last := a.marks[0], a.marks[1], a.marks[2], a.marks[3]
		a.Moved, a.Edges = moved(first, last), moved(first, attached)
		for name, n := range moved(detaching, last) {
			a.Edges[name] += n
		}
	}
}

// audited is a source whose detaching is marked.
type audited struct {
	source
	*audit
}

// Detach is the source's.
func (a audited) Detach() error {
	a.mark()
	defer a.mark()
	return a.source.Detach()
}
