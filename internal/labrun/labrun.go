// Package labrun traces the scenarios of the lab while they run, and judges what was reported.
package labrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/ladder"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/sockets"
)

// Options say how to run scenarios.
type Options struct {
	Stream  pipeline.Options // Stderr gets all but the verdicts
	Stdout  io.Writer        // for the verdicts
	JSON    bool             // an object per scenario
	Record  string           // directory to keep the events in; empty: none
	Sockets *sockets.Source  // lists the open sockets of a scenario
	// Named: the user named the scenarios. Those that change a setting of the whole machine run only then.
	Named bool
	// Quiet: ordinary closes, and FINs received, are only counted, and scenarios may miss them.
	Quiet bool
	// Tour shows some endings that most users meet, each with its ladder, and of the others only how many passed.
	Tour   bool
	Layout ladder.Layout // of the tour
}

// Run runs scenarios while src reports their events, and prints a verdict for each. A scenario that failed is
// [hint.ErrReported].
func Run(ctx context.Context, src pipeline.Source, scenarios []*lab.Scenario, o Options) error {
	h := src.Header()
	fmt.Fprintf(o.Stream.Stderr, "closetrace: lab on %s by %s\n", h.Kernel, h.Attach)
	r := &runner{Options: o, header: h, tally: tally{json: o.JSON, brief: o.Tour, out: o.Stdout}}
	if o.Record != "" {
		o.Stream.Recorder = eventCollector{collector: &r.collector}
	}
	stream := pipeline.New(src, &r.collector, o.Stream)
	r.losses = stream.Losses
	losses, err := r.runAll(ctx, stream, scenarios)
	if errors.Is(err, syscall.EPIPE) {
		pipeline.ReportOutputClosed(o.Stream.Stderr)
		return nil
	}
	if err != nil {
		return err
	}
	if losses != (events.Losses{}) {
		fmt.Fprintf(o.Stream.Stderr, "closetrace: %d records lost, %d probes missed, %d RST replies not reported: "+
			"this may be why a scenario failed\n", losses.LostRecords, losses.MissedProbes, losses.Suppressed)
	}
	return r.tally.finish(o.Stream.Stderr, h)
}

// runner runs scenarios.
type runner struct {
	Options
	header    events.Header
	collector collector
	tally     tally
	losses    func() events.Losses // so far
}

// runAll runs the scenarios while the stream carries their events.
func (r *runner) runAll(ctx context.Context, s *pipeline.Stream, scenarios []*lab.Scenario) (events.Losses, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var losses events.Losses
	done := make(chan error, 1)
	go func() {
		var err error
		losses, err = s.Flow(ctx)
		stop() // a stream that failed reports no more
		done <- err
	}()
	err := r.runEach(ctx, scenarios)
	stop()
	if streamErr := <-done; streamErr != nil {
		err = streamErr // the cause of what else went wrong
	}
	return losses, err
}

// parallel is how many scenarios run at a time: most of a scenario is waiting.
const parallel = 16

// runEach runs the scenarios, after those of the tour, if there is one. An error does not hide the verdicts before it.
func (r *runner) runEach(ctx context.Context, scenarios []*lab.Scenario) error {
	if r.Tour {
		var err error
		if scenarios, err = r.runTour(ctx, scenarios); err != nil {
			return err
		}
	}
	err := r.runScheduled(ctx, scenarios)
	if printErr := r.tally.printAll(); err == nil {
		err = pipeline.OutputFailure(printErr)
	}
	return err
}

// numbered is a scenario and its place in the list.
type numbered struct {
	*lab.Scenario
	place int
}

// runScheduled first runs the scenarios that have to run alone, so that none waits for the others to end, and then the
// rest in parallel. While recording it runs them one by one: a recording holds the events of its scenario only.
func (r *runner) runScheduled(ctx context.Context, scenarios []*lab.Scenario) error {
	var alone, rest []numbered
	for i, sc := range scenarios {
		if sc.Alone() || r.Record != "" {
			alone = append(alone, numbered{sc, i})
		} else {
			rest = append(rest, numbered{sc, i})
		}
	}
	for _, sc := range alone {
		if err := r.runOne(ctx, sc); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, sc := range rest {
		group.Go(func() error { return r.runOne(ctx, sc) })
	}
	return group.Wait()
}

// runOne runs a scenario. Its verdict is printed after those of the scenarios before it in the list. An error ends the
// whole run.
func (r *runner) runOne(ctx context.Context, sc numbered) error {
	v, err := r.judged(ctx, sc.Scenario)
	if err != nil {
		return err
	}
	return pipeline.OutputFailure(r.tally.add(sc.place, v))
}

// judged runs a scenario, again if its failure may be none of closetrace, and returns the verdict.
func (r *runner) judged(ctx context.Context, sc *lab.Scenario) (*verdict, error) {
	if sc.ChangesMachine() && !r.Named {
		v := newVerdict(sc, r.header.Attach)
		v.Verdict, v.Reason = notPossible, onlyNamed
		return v, nil
	}
	if r.Quiet {
		sc = sc.Counting(string(events.CloseFINActive), string(events.CloseFINPassive), string(events.RecvFIN))
	}
	return retry(r.Stream.Stderr, func() (*verdict, error) { return r.attempt(ctx, sc) }, r.lost)
}

// onlyNamed is why a scenario does not run that changes a setting of the whole machine.
const onlyNamed = "it changes a setting of the whole machine; name it to run it"

// maxAttempts is how often a scenario runs if its failure may be none of closetrace.
const maxAttempts = 3

// retry returns the verdict of the first attempt that passed, or whose failure nothing excuses, or else of the last.
// lost says whether the kernel has counted anything that was not reported.
func retry(stderr io.Writer, attempt func() (*verdict, error), lost func() bool) (*verdict, error) {
	for n := 1; ; n++ {
		v, err := attempt()
		if err != nil || v.Verdict != fail || n == maxAttempts {
			return v, err
		}
		excuse := v.excuse(lost(), n == 1)
		if excuse == "" {
			return v, nil
		}
		fmt.Fprintf(stderr, "closetrace: retrying %s: %s: %s\n", v.Name, excuse, strings.Join(v.Mismatches, "; "))
	}
}

// excuse returns why a failure may be none of closetrace, or "": on a busy machine a timer may expire first; and some
// kernels leave out programs while process 1 is current, without counting that. It is rare, so one more attempt is
// enough.
func (v *verdict) excuse(lost, first bool) string {
	switch {
	case v.otherPath:
		return "the kernel did not take the provoked path"
	case lost:
		return "records were lost or probes missed"
	case v.incomplete && first:
		return "the kernel may have left out a program"
	}
	return ""
}

// lost reports whether anything was lost or missed since the run began.
func (r *runner) lost() bool {
	l := r.losses()
	return l.LostRecords+l.MissedProbes > 0
}

// interruption returns the error of a scenario that was interrupted and then ended with err. Steps that could not go on
// are no news; a setting of the whole machine that stays changed is.
func interruption(err error) error {
	var changed *lab.NotRestored
	if errors.As(err, &changed) {
		return fmt.Errorf("interrupted, and %w", changed)
	}
	return errors.New("interrupted")
}

// attempt runs a scenario once.
func (r *runner) attempt(ctx context.Context, sc *lab.Scenario) (*verdict, error) {
	if ctx.Err() != nil {
		return nil, interruption(nil)
	}
	var open openSockets
	res, err := sc.Run(ctx, func(res *lab.Result) {
		r.settle(ctx, sc, res)
		open = r.findStuck(ctx, sc, res)
	})
	defer r.collector.drop(res)
	switch {
	case ctx.Err() != nil:
		return nil, interruption(err)
	case errors.As(err, new(*lab.NotRestored)): // trying again would hide how to restore it
		return nil, err
	case errors.Is(err, syscall.EPERM) && res.Netns == 0:
		return nil, hint.New(hint.Privilege, "cannot create a network namespace for the lab: "+err.Error(),
			"run as root: sudo closetrace lab")
	}
	v := newVerdict(sc, r.header.Attach)
	switch {
	case err != nil:
		v.fail(err.Error())
		v.otherPath = true
	case res.NotPossible != "":
		v.Verdict, v.Reason = notPossible, res.NotPossible
	default:
		v.judge(sc, res, r.collector.endings(sc, res))
		if r.Tour {
			v.endings = r.collector.all(res)
		}
		v.judgeOpen(&open)
		v.judgeExplained(ctx, sc, res, r.header.Missing, r.collector.moved)
		if r.Record != "" {
			return v, writeRecording(r.Record, sc, r.header, res, r.collector.recorded(res))
		}
	}
	return v, nil
}
