package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink"
)

// Run is a stream of now, with the summary and the audit at its end. The caller closes it.
type Run struct {
	*Stream
	counters Counters
}

// Counters are the kernel's, by which the endings of a run are audited.
type Counters interface {
	// Compared returns the audit, in which endings are counted meanwhile.
	Compared() *sink.Audit
	// Finish adds how far the counters moved, once the source is detached. full: the run stopped at its limit of endings.
	Finish(h events.Header, full bool)
}

// NewRun returns a run from a source to a sink.
func NewRun(src Source, out Sink, o Options, c Counters) *Run { return &Run{New(src, out, o), c} }

// RecordingFailed reports whether the recording lacks what happened since a failure, and whether there is a recording.
// It may be called at any time from any goroutine.
func (r *Run) RecordingFailed() (failed, recorded bool) {
	to := r.options.recording
	return to != nil && to.hasFailed.Load(), to != nil
}

// Record carries events to the recording until ctx ends, completes it and prints how much it has. It is for
// [RecordingOptions.Only].
func (r *Run) Record(ctx context.Context) error {
	defer r.recoverPanic()
	sum := sink.Summary{Audit: r.counters.Compared()}
	begin := time.Now()
	_, err := r.Flow(ctx)
	sum.Took = time.Since(begin)
	r.Complete(&sum)
	r.counters.Finish(r.Header(), false)
	if recordErr := r.options.Recorder.End(endOf(&sum)); recordErr != nil {
		err = recordErr // it includes why the flow ended, if that was for the recording
	}
	printErr := sum.PrintRecorded(r.options.Stderr, r.options.recording.written)
	return cmp.Or(err, printErr)
}

// Trace carries events until ctx ends, prints the summary and completes the recording.
func (r *Run) Trace(ctx context.Context) error {
	defer r.recoverPanic()
	sum := sink.Summary{Audit: r.counters.Compared(), SummaryOptions: r.options.Summary}
	ShowSummary(r.sink, &sum)
	r.options.Observers = append(r.options.Observers, summaryObserver{&sum}, auditObserver{sum.Audit})
	begin := time.Now()
	_, err := r.Flow(ctx)
	sum.Took = time.Since(begin)
	r.Complete(&sum)
	r.counters.Finish(r.Header(), r.full())
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
