// Package live traces this machine: it attaches the kernel side, chooses what to look up, reads the kernel's counters
// for the audit, and drops the privileges that are not needed any more. Package pipeline does the rest.
package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/netns"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
)

// System is what a live run needs of the machine. Tests replace it.
type System struct {
	Open       func(context.Context, probe.Options) (pipeline.Source, error)
	Privileges func() []kernel.Privilege
	// DropPrivileges gives up privileges for good: [kernel.DropPrivileges].
	DropPrivileges func(later kernel.Use) error
	// ReadCounters reads the counters of the network namespace behind a path, which must still be the one with this
	// inode number; without a path, those of this process's own namespace.
	ReadCounters func(path string, inode uint32) (sink.Counters, error)
	// ReadOthers reads the counters of other network namespaces than one: [netns.Finder.Others]. nil: none are compared.
	ReadOthers func(except uint32, limit int) netns.Readings
}

// Options say how to trace this machine.
type Options struct {
	pipeline.Options
	System    System
	Probe     probe.Options // its Log is used for the whole run
	Resolve   ResolverOptions
	Recording pipeline.RecordingOptions
	Counters  CounterOptions
	Later     kernel.Use // what the caller does while it is attached
}

// Start attaches, and returns a run that is ready to trace to out.
func Start(ctx context.Context, out pipeline.Sink, o Options) (*pipeline.Run, error) {
	counters := newCounters(o.Counters, &o.System)
	counters.take()
	log := o.Probe.Log
	var run *pipeline.Run
	if !o.Probe.Filter.HidesPeers() {
		o.Resolve.Lost = onGrowth(func() events.Losses { return run.Losses() })
	}
	if len(o.Probe.Filter.Netns) > 0 {
		o.Resolve.NetDirs = nil // who sends a RST in others is hidden
	}
	o.Resolvers = NewResolvers(o.Resolve, log)
	o.Probe.RecordsOnly = o.Recording.Copies()
	src, err := o.System.Open(ctx, o.Probe)
	if err != nil {
		return nil, err
	}
	h := src.Header()
	if o.Recording.Path != "" {
		header := h
		header.AuditNetns = counters.Netns
		if err := o.RecordTo(o.Recording, header); err != nil {
			return nil, errors.Join(err, src.Close())
		}
	}
	counters.take() // with all privileges, to enter a namespace without a process
	later := o.Later
	if o.Counters.EntersNetns() {
		later |= kernel.EntersNetns
	}
	if o.Recording.Rotation.Active() {
		later |= kernel.CreatesFiles
	}
	o.System.CheckPrivileges(later, log)
	fmt.Fprintf(o.Stderr, "closetrace: tracing on %s by %s; end with Ctrl-C\n", sink.Tame(h.Kernel), h.Attach)
	run = pipeline.NewRun(countedSource{src, counters}, out, o.Options, counters)
	return run, nil
}

// onGrowth returns a function that reports whether the losses differ from those at its last call.
func onGrowth(losses func() events.Losses) func() bool {
	var before events.Losses
	return func() bool {
		now := losses()
		grown := now != before
		before = now
		return grown
	}
}

// CheckPrivileges logs what is not reported for missing privileges, and drops those that only attaching needs.
func (s *System) CheckPrivileges(later kernel.Use, log *slog.Logger) {
	if unseen := kernel.Unseen(general(s.Privileges())); len(unseen) > 0 {
		log.Warn("missing privileges: the following will not be reported", "unseen", unseen)
	}
	if err := s.DropPrivileges(later); err != nil {
		log.Warn("could not drop unneeded privileges", "because", err)
	}
}

// general returns the privileges that do not depend on a flag.
func general(all []kernel.Privilege) []kernel.Privilege {
	return slices.DeleteFunc(all, func(p kernel.Privilege) bool { return p.Flag != "" })
}
