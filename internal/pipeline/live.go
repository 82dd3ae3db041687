package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/netns"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
)

// System is what a live run needs of the machine. Tests replace it.
type System struct {
	Open       func(context.Context, probe.Options) (Source, error)
	Privileges func() []kernel.Privilege
	// DropPrivileges gives up privileges for good: [kernel.DropPrivileges].
	DropPrivileges func(later kernel.Use) error
	// ReadCounters reads the counters of the network namespace behind a path, which must still be the one with this
	// inode number; without a path, those of this process's own namespace.
	ReadCounters func(path string, inode uint32) (sink.Counters, error)
	// ReadOthers reads the counters of other network namespaces than one: [netns.Finder.Others]. nil: none are compared.
	ReadOthers func(except uint32, limit int) netns.Readings
}

// LiveOptions say how to trace this machine.
type LiveOptions struct {
	Options
	System    System
	Probe     probe.Options // its Log is used for the whole run
	Resolve   ResolverOptions
	Recording RecordingOptions
	Counters  CounterOptions
	Later     kernel.Use // what the caller does while it is attached
}

// Run is a live trace that is attached. The caller closes it.
type Run struct {
	*Stream
	counters  *counters
	recording *recording // nil: none
}

// Start attaches, and returns a run that is ready to trace to out.
func Start(ctx context.Context, out Sink, o LiveOptions) (*Run, error) {
	counters := newCounters(o.Counters, &o.System)
	counters.take()
	log := o.Probe.Log
	var run *Run
	if !o.Probe.Filter.HidesPeers() {
		o.Resolve.Lost = onGrowth(func() events.Losses { return run.Losses() })
	}
	if len(o.Probe.Filter.Netns) > 0 {
		o.Resolve.NetDirs = nil // who sends a RST in others is hidden
	}
	o.Resolvers = NewResolvers(o.Resolve, log)
	o.Probe.RecordsOnly = o.Recording.copies()
	src, err := o.System.Open(ctx, o.Probe)
	if err != nil {
		return nil, err
	}
	h := src.Header()
	var recording *recording
	if o.Recording.Path != "" {
		header := h
		header.AuditNetns = counters.Netns
		if recording, err = createRecording(o.Recording, header, &o.Options); err != nil {
			return nil, errors.Join(err, src.Close())
		}
		o.record(recording)
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
	run = &Run{New(countedSource{src, counters}, out, o.Options), counters, recording}
	return run, nil
}

// record makes the options those of a run that is recorded.
func (o *LiveOptions) record(to *recording) {
	if !o.Recording.Trigger.Active() {
		o.Recorder, o.RecordOnly = to, o.Recording.Only
		return
	}
	t := newTriggered(to, o.Recording.Trigger, o.Probe.CloseWait)
	o.Recorder, o.Observers = t, append(o.Observers, t)
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

// Record carries events to the recording until ctx ends, completes it and prints how much it has. It is for
// [RecordingOptions.Only].
func (r *Run) Record(ctx context.Context) error {
	defer r.recoverPanic()
	sum := sink.Summary{Audit: &r.counters.Audit}
	begin := time.Now()
	_, err := r.Flow(ctx)
	sum.Took = time.Since(begin)
	r.Complete(&sum)
	r.counters.finish(r.Header(), false)
	if recordErr := r.options.Recorder.End(endOf(&sum)); recordErr != nil {
		err = recordErr // it includes why the flow ended, if that was for the recording
	}
	printErr := sum.PrintRecorded(r.options.Stderr, r.recording.written)
	return cmp.Or(err, printErr)
}

// Trace carries events until ctx ends, prints the summary and completes the recording.
func (r *Run) Trace(ctx context.Context) error {
	defer r.recoverPanic()
	sum := sink.Summary{Audit: &r.counters.Audit, SummaryOptions: r.options.Summary}
	ShowSummary(r.sink, &sum)
	r.options.Observers = append(r.options.Observers, summaryObserver{&sum}, auditObserver{sum.Audit})
	begin := time.Now()
	_, err := r.Flow(ctx)
	sum.Took = time.Since(begin)
	r.Complete(&sum)
	r.counters.finish(r.Header(), r.full())
	if errors.Is(err, syscall.EPIPE) {
		ReportOutputClosed(r.options.Stderr)
		return r.options.Recorder.End(endOf(&sum))
	}
	if recordErr := r.options.Recorder.End(endOf(&sum)); err == nil {
		err = recordErr
	}
	if printErr := r.print(&sum); err == nil {
		err = printErr
	}
	return err
}

// Close closes the source.
func (r *Run) Close() error { return r.source.Close() }

// ReportOutputClosed says why a run ends without a summary.
func ReportOutputClosed(stderr io.Writer) {
	fmt.Fprintln(stderr, "closetrace: output closed by its reader; stopping")
}
