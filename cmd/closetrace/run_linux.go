package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/command"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/live"
	"github.com/closetrace/closetrace/internal/message"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/rights"
	"github.com/closetrace/closetrace/internal/sink"
)

const runAbout = `closetrace run traces a command and all processes that it starts, until the command
ends. It is made for CI: it prints to standard error, and leaves the command's input,
output and exit code alone, unless an ending matches --fail-on.

It forwards signals to the command. The command runs in a cgroup (v2) of its own, which
identifies its processes. An ending caused by a segment or a timer is the command's if
one of its processes holds the socket, or ends the same connection by a call, earlier
or later.
`

const runExamples = `Examples:
  sudo closetrace run -- curl -s http://localhost:8080/
  sudo closetrace run --fail-on 'close.rst.*,recv.rst,app' -- go test ./...
  sudo closetrace run --fail-on errors --only errors -- ./integration-test
`

// runner is what run uses of this machine.
type runner struct {
	console   *console
	system    live.System
	resolvers live.ResolverOptions // where to look up
	group     func() (command.Group, error)
}

// runFlags are the flags of run.
type runFlags struct {
	failOn  []filter.Pattern
	shown   filter.Endings
	display display
	wait    time.Duration // in CLOSE_WAIT
	stacks  bool
	names   bool
	attach  probe.Attachment
	buffer  int
	verbose bool
}

func newRun(m runner) *cobra.Command {
	r := &runFlags{
		display: newDisplay(m.console.language), wait: defaultCloseWait, buffer: probe.DefaultBufferSize,
		attach: probe.Attachment{Attach: probe.Auto},
	}
	cmd := &cobra.Command{
		Use:   runName + " [flags] -- COMMAND [ARGUMENT...]",
		Short: "Trace a command and its children; with --fail-on, fail if an ending matches",
		RunE:  func(cmd *cobra.Command, argv []string) error { return r.run(cmd, m, argv) },

		DisableFlagsInUseLine: true,
	}
	cmd.Flags().SetInterspersed(false) // flags after the command are the command's
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if err = flagError(cmd, err); hint.Is(err, hint.Usage) {
			return hint.As(hint.Untraced, err)
		}
		return err
	})
	g := newGroup("Flags")
	g.flags.Var(flagvalue.Patterns(&r.failOn), "fail-on",
		"exit with 124 if an ending matches one of these: patterns as for --only")
	r.display.register(g)
	closeWaitFlag(g, &r.wait)
	stackFlag(g, &r.stacks)
	namesFlag(g, &r.names)
	attachFlag(g, &r.attach)
	bufferFlag(g, &r.buffer)
	verboseFlag(g, &r.verbose)
	helpFlag(g)
	help := manual{
		about:  runAbout,
		groups: []flagGroup{g, endingFlags(&r.shown)},
		tail:   hint.RunExitCodes() + "\n" + runExamples,
	}
	help.attach(cmd)
	completeEndings(cmd, "only", "not", "fail-on")
	r.display.complete(cmd)
	complete(cmd, "attach", attachChoice(&r.attach).Words())
	return cmd
}

func (r *runFlags) run(cmd *cobra.Command, m runner, argv []string) error {
	c := m.console
	if len(argv) == 0 {
		return hint.As(hint.Untraced, hint.New(hint.Usage, "no command to run", seeHelp(cmd)))
	}
	if err := cmp.Or(intervalApart(cmd, argv), new(eventFilter).contradicts(&r.shown)); err != nil {
		return hint.As(hint.Untraced, err)
	}
	// The user names the command, whose rights it is found and executed with.
	var child *command.Command
	err := rights.AsUser(func() (err error) {
		child, err = command.New(argv, c.stdin, c.stdout.file, c.stderr.file)
		return err
	})
	if err != nil {
		return err
	}
	out, _, err := c.open(c.stderr, nil, &r.display, pipeline.Others{})
	if err != nil {
		return hint.As(hint.Untraced, err)
	}
	src, err := m.system.Open(cmd.Context(), probe.Options{
		Attachment: r.attach, BufferSize: r.buffer, Stacks: r.stacks, CloseWait: r.wait, Log: c.logger(r.verbose),
	})
	if err != nil {
		return hint.As(hint.Untraced, err)
	}
	defer src.Close()
	group, err := m.group()
	if err != nil {
		return hint.As(hint.Untraced, err)
	}
	defer dissolve(c.stderr, group)
	if err := out.begin(); err != nil {
		return hint.As(hint.Untraced, err)
	}
	h := src.Header()
	fmt.Fprintf(c.stderr, "closetrace: tracing %s on %s by %s\n", sink.OneLine(argv[0]), sink.OneLine(h.Kernel), h.Attach)
	printer := c.sink(out, &r.display)
	t := &commandTrace{
		runFlags: r, out: &pipeline.CheckedSink{Sink: printer}, header: h, sumTo: r.display.summaryTo(out),
		policy: command.NewFailOn(r.failOn),
	}
	pipeline.Begin(printer, h)
	o := c.streamOptions(0)
	o.OutputClosed = nil // the command goes on
	r.display.apply(&o.Summary, &r.shown)
	t.sum.SummaryOptions = o.Summary
	o.Summary.HidesNoEffect = false // the attribution gets the command's calls
	pipeline.ShowSummary(printer, &t.sum)
	o.LossesTo = o.Stderr
	o.Resolvers = live.NewResolvers(c.resolverOptions(m.resolvers, r.stacks, r.names), c.logger(r.verbose))
	t.Attribution = command.NewAttribution(group, t.emit)
	s := pipeline.New(src, t, o)
	if err := rights.AsUser(func() error { return child.Start(cmd.Context(), group) }); err != nil {
		return err
	}
	defer child.Close()
	// Only now, because the command inherits what cannot be taken back.
	m.system.CheckPrivileges(kernel.SignalsOthers|kernel.RemovesCgroup, c.logger(r.verbose))
	return t.finish(c.stderr, t.flow(cmd.Context(), s, child), child)
}

// dissolve removes the command's cgroup.
func dissolve(stderr io.Writer, g command.Group) {
	left, err := g.Close()
	if left > 0 {
		fmt.Fprintf(stderr, "closetrace: processes of the command that still run and are no longer traced: %d\n", left)
	}
	if err != nil {
		fmt.Fprintln(stderr, "closetrace: "+sink.OneLine("cannot remove the command's cgroup: "+err.Error()))
	}
}

// commandTrace prints the endings of a command and counts those of --fail-on.
type commandTrace struct {
	*runFlags
	header events.Header
	sumTo  io.Writer // for the summary as JSON; nil: nowhere
	*command.Attribution
	out     *pipeline.CheckedSink
	printed bool // an ending
	sum     sink.Summary
	policy  *command.FailOn
}

// emit accepts an ending of the command. If one cannot be printed, the command goes
// on, and it still counts for --fail-on; finish reports the failure.
func (t *commandTrace) emit(e *events.Ending) {
	t.policy.Count(e)
	if !t.shown.Match(e) {
		t.sum.LeaveOut(e)
		return
	}
	t.sum.Add(e)
	if t.sum.HidesNoEffect && e.HasNoEffect() {
		return
	}
	t.printed = true
	_ = cmp.Or(t.out.Write(e), t.out.Flush())
}

// Flush flushes the output, where endings of a burst may wait for the end of their second. It returns no error, which
// would end the trace before the command.
func (t *commandTrace) Flush() error {
	if t.printed {
		_ = t.out.Flush()
	}
	return nil
}

// flow carries events until the command ends.
func (t *commandTrace) flow(ctx context.Context, s *pipeline.Stream, child *command.Command) error {
	tracing, stop := context.WithCancel(context.WithoutCancel(ctx)) // the command decides about signals
	defer stop()
	begin := time.Now()
	go func() {
		child.Wait(ctx.Done())
		stop()
	}()
	_, err := s.Flow(tracing)
	<-child.Done()
	t.sum.Took = time.Since(begin)
	s.Complete(&t.sum)
	return err
}

// finish prints the summary, and returns the error that has the exit code of run.
func (t *commandTrace) finish(stderr io.Writer, err error, child *command.Command) error {
	unprinted := t.printSummary(stderr)
	if t.policy.Active() && t.sum.LostRecords+t.sum.MissedProbes > 0 {
		fmt.Fprintln(stderr, "closetrace: lost records or missed probes may hide an ending of --fail-on")
	}
	if unprinted != nil { // whatever else run fails with
		message.Report(stderr, unprinted)
		unprinted = hint.As(hint.Untraced, hint.ErrReported)
	}
	if failed := t.policy.Err(child.String()); failed != nil {
		return failed
	}
	if err != nil {
		return hint.As(hint.Untraced,
			fmt.Errorf("tracing failed before the command ended; the command itself: %s: %w", child, err))
	}
	return cmp.Or(child.Status(), unprinted)
}

// printSummary completes the output, prints the summary, and returns why the output is incomplete. That its reader
// closed it is no failure.
func (t *commandTrace) printSummary(stderr io.Writer) (err error) {
	if t.printed {
		_ = t.out.Close() // Outcome returns the error
	}
	t.sum.Unwritten, err = t.out.Outcome()
	_ = t.sum.Print(stderr)
	if t.sumTo != nil {
		err = cmp.Or(err, pipeline.OutputFailure(t.sum.PrintJSON(t.sumTo, t.header)))
	}
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}
