package live

import (
	"fmt"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/netns"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/sink"
)

// CounterOptions say whose counters a live run compares with its endings.
type CounterOptions struct {
	Netns uint32 // inode number of the network namespace
	Path  string // of the namespace's file; empty if it is this process's own namespace
	// Others: the endings of other network namespaces are traced, and compared as well: of these, or of all if empty.
	Others bool
	Those  []uint32
	// Skip is why there is nothing to compare; empty if there is.
	Skip string
}

// EntersNetns reports whether the counters are read in another network namespace than this process's.
func (o CounterOptions) EntersNetns() bool { return o.Skip == "" && o.Path != "" }

// counters reads a network namespace's counters four times: before attaching, once attached, before detaching and
// after it. What moved while closetrace was attached has to be explained by endings; what moved just before or after
// may be.
type counters struct {
	sink.Audit
	read       func() (sink.Counters, error)
	readOthers func() netns.Readings // nil: not compared
	those      []uint32              // the others that are compared; empty: all
	readings   []sink.Counters
	others     []netns.Readings
}

// maxNetns is the number of other network namespaces whose counters are read: a node of Kubernetes has 110 pods.
const maxNetns = 128

func newCounters(o CounterOptions, system *System) *counters {
	c := &counters{
		Audit: sink.Audit{Netns: o.Netns, Impossible: o.Skip}, those: o.Those,
		read: func() (sink.Counters, error) { return system.ReadCounters(o.Path, o.Netns) },
	}
	if o.Others && o.Skip == "" && system.ReadOthers != nil {
		c.readOthers = func() netns.Readings { return system.ReadOthers(o.Netns, maxNetns) }
	}
	return c
}

// take reads the counters. At the end, closest to detaching, those of the audited namespace are read first.
func (c *counters) take() {
	if c.Impossible != "" {
		return
	}
	if c.readOthers != nil {
		defer func() { c.others = append(c.others, c.readOthers()) }()
	}
	now, err := c.read()
	if err != nil {
		c.Impossible = fmt.Sprintf("reading the counters: %v", err)
	}
	c.readings = append(c.readings, now)
}

// Compared returns the audit.
func (c *counters) Compared() *sink.Audit { return &c.Audit }

// Finish works out what moved while the stream flowed. full: the stream reached its limit.
func (c *counters) Finish(h events.Header, full bool) {
	c.Missing, c.ByTracepoint = h.Missing, h.ByTracepoint()
	switch {
	case c.Impossible != "":
	case len(c.readings) != 4:
		c.Impossible = "tracing did not end cleanly"
	case full:
		c.Impossible = pipeline.LimitReached
	default:
		first, attached, detaching, last := c.readings[0], c.readings[1], c.readings[2], c.readings[3]
		c.Moved, c.Edges = last.Since(first), attached.Since(first)
		for name, n := range last.Since(detaching) {
			c.Edges[name] += n
		}
		c.finishOthers()
	}
}

// countedSource is a source around whose detaching the counters are read.
type countedSource struct {
	pipeline.Source
	counters *counters
}

// Detach detaches the source.
func (c countedSource) Detach() error {
	c.counters.take()
	defer c.counters.take()
	return c.Source.Detach()
}
