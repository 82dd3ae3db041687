package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/live"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/plan"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
)

// tracer is what trace and top use of this machine.
type tracer struct {
	console   *console
	system    live.System
	targets   targets
	resolvers live.ResolverOptions // where to look up
}

const about = `closetrace shows how and why each TCP connection on this machine ended: the path the
kernel took, the evidence, and the process that caused it.

It prints one line per ending to standard output until it is interrupted. PATH is what
happened, for example "close → RST", "RST received" or "RST in reply"; WHY is the
reason. PID and COMM are the process that made the call. If a segment or a timer ended
the connection, they are the process that holds the socket, if it can be found.

It prints a summary to standard error at the end. The audit in it compares the RSTs and
resets that the kernel counted with those that were explained.
`

const examples = `Examples:
  sudo closetrace                          all endings, live
  sudo closetrace -p 4211                  one process
  sudo closetrace -L 443 -4                connections to port 443 here, IPv4
  sudo closetrace -D 5432,6379             connections to a database or a cache
  sudo closetrace --netns web --duration 1m -o wide
  sudo closetrace --container 0f4b1c2d3e   one container
  sudo closetrace --errors -c 'nginx*'     abnormal endings of nginx only
  sudo closetrace -o json | jq 'select(.rst or .rst_received)'
  sudo closetrace -w today.rec.zst         also record, for closetrace replay
  sudo closetrace run --fail-on rst -- make check    fail a CI job on a RST
  sudo closetrace top                      rates and totals on a full screen
  sudo closetrace lab                      provoke every path on this machine
  sudo closetrace stuck                    sockets that do not close, and why
  sudo closetrace check                    what can be traced on this machine
  closetrace explain close.rst.unread      what a path means, how to avoid it
`

// traceFlags are the flags of a live trace.
type traceFlags struct {
	filter   eventFilter
	selected kernelFilter // what it names
	shown    filter.Endings
	display  display
	count    uint64
	duration time.Duration
	record   pipeline.RecordingOptions
	wait     time.Duration // in CLOSE_WAIT
	attach   probe.Attachment
	shared   bool
	stacks   bool
	names    bool // of containers
	buffer   int
	tier     plan.Tier
	plan     plan.Plan
	verbose  bool
}

func newTraceFlags(c *console) traceFlags {
	return traceFlags{
		display: newDisplay(c.language), wait: defaultCloseWait, buffer: probe.DefaultBufferSize,
		attach: probe.Attachment{Attach: probe.Auto}, tier: plan.Auto,
	}
}

func newTrace(m tracer) *cobra.Command {
	flags := newTraceFlags(m.console)
	t := &flags
	cmd := &cobra.Command{
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return t.run(cmd.Context(), m) },
	}
	other := newGroup("Other flags")
	helpFlag(other)
	other.flags.Bool("version", false, "print the version")
	help := manual{
		about:  about,
		groups: append(t.filterFlags(), t.outputFlags(), t.kernelFlags(), other),
		tail: hint.LiveExitCodes("tracing or recording failed") +
			"The other commands list theirs, for example closetrace run -h.\n\n" + examples,
	}
	help.attach(cmd)
	t.complete(cmd)
	completeList(cmd, "trigger", flagvalue.PatternWords())
	t.display.complete(cmd)
	return cmd
}

// complete registers the shell completions of the flags that every live command has.
func (t *traceFlags) complete(cmd *cobra.Command) {
	completeEndings(cmd, "only", "not")
	complete(cmd, "attach", attachChoice(&t.attach).Words())
	complete(cmd, "tier", tierChoice(&t.tier).Words())
}

func (t *traceFlags) filterFlags() []flagGroup {
	return []flagGroup{t.filter.flags(netnsNames), endingFlags(&t.shown)}
}

func (t *traceFlags) outputFlags() flagGroup {
	g := newGroup("Output")
	t.display.register(g)
	g.flags.Uint64Var(&t.count, "count", 0, "stop after `N` endings")
	t.durationFlag(g)
	closeWaitFlag(g, &t.wait)
	stackFlag(g, &t.stacks)
	namesFlag(g, &t.names)
	t.recordingFlags(g)
	verboseFlag(g, &t.verbose)
	return g
}

func (t *traceFlags) recordingFlags(g flagGroup) {
	r := &t.record
	g.flags.VarP(flagvalue.Recording{File: flagvalue.File{Path: &r.Path}}, "write", "w",
		"record to `FILE`, whatever is shown, for closetrace replay; FILE.zst is compressed")
	g.flags.BoolVar(&r.Force, "force", false, "with -w: replace FILE if it exists; with -C or -G, go on after it")
	g.flags.VarP(flagvalue.FileSize{Bytes: &r.Rotation.Size}, "rotate-size", "C",
		"with -w: begin another file before one exceeds `SIZE`, for example 100M; files are numbered")
	g.flags.VarP(flagvalue.Duration{Time: &r.Rotation.Every}, "rotate-time", "G",
		"with -w: begin another file after `TIME`; FILE may have the time as in strftime(3)")
	g.flags.VarP(flagvalue.Count{N: &r.Rotation.Keep}, "rotate-count", "W", "with -C or -G: keep the last `COUNT` files")
	t.record.Trigger.Before, t.record.Trigger.After = pipeline.TriggerBefore, pipeline.TriggerAfter
	around := flagvalue.Around{
		List: flagvalue.Patterns(&r.Trigger.Endings), Before: &r.Trigger.Before, After: &r.Trigger.After,
	}
	g.flags.Var(around, "trigger", "with -w: record only the time before and after endings of these patterns, "+
		"for example rst:1m,5s; without times 30s,10s")
}

func (t *traceFlags) durationFlag(g flagGroup) {
	g.flags.Var(flagvalue.Duration{Time: &t.duration}, "duration", "stop after `TIME`, for example 10s or 5m")
}

func (t *traceFlags) kernelFlags() flagGroup {
	g := newGroup("Kernel side")
	attachFlag(g, &t.attach)
	tierFlag(g, &t.tier)
	t.sharedFlag(g)
	bufferFlag(g, &t.buffer)
	return g
}

func (t *traceFlags) sharedFlag(g flagGroup) {
	g.flags.BoolVar(&t.shared, "shared-closes", false, "also report close(2) calls that leave the socket open "+
		"(dup'ed descriptor or blocked call); probes every close(2), in tracepoint mode every system call")
}

// check validates the flags, and looks up what the filter names.
func (t *traceFlags) check(m *tracer) error {
	for _, pid := range t.shown.PIDs {
		if err := m.targets.process(pid); err != nil {
			return err
		}
	}
	if err := t.validate(); err != nil {
		return err
	}
	if t.names {
		m.targets.runtimes = m.resolvers.Runtimes
	}
	var err error
	t.selected, err = m.targets.find(&t.filter)
	return err
}

// validate validates the flags, without looking anything up, and chooses the plan.
func (t *traceFlags) validate() error {
	if err := t.checkRotation(); err != nil {
		return err
	}
	if err := t.filter.contradicts(&t.shown); err != nil {
		return err
	}
	needs := plan.Needs{Shown: t.shown, Recorded: t.record.Path != "", CloseWait: t.wait}
	var err error
	t.plan, err = plan.Choose(t.tier, needs)
	return err
}

// checkRotation returns an error if flags of a recording lack the one that they need.
func (t *traceFlags) checkRotation() error {
	switch r := t.record.Rotation; {
	case (r.Active() || r.Keep > 0 || t.record.Trigger.Active()) && t.record.Path == "":
		return hint.New(hint.Usage, "-C, -G, -W and --trigger need a recording", "add --write FILE")
	case r.Keep > 0 && !r.Active():
		return hint.New(hint.Usage, "-W keeps files that -C or -G begin", "add --rotate-size 100M or --rotate-time 1h")
	}
	return nil
}

func (t *traceFlags) run(ctx context.Context, m tracer) error {
	if err := t.check(&m); err != nil {
		return err
	}
	others := pipeline.Others{Recording: t.record.OnlyFile()}
	out, closed, err := m.console.open(m.console.stdout, m.console.outputClosed, &t.display, others)
	if err != nil {
		return err
	}
	o := t.options(&m)
	o.LossesTo, o.OutputClosed, o.SummaryTo = o.Stderr, closed, t.display.summaryTo(out)
	t.display.apply(&o.Summary, &t.shown)
	run, err := live.Start(ctx, m.console.sink(out, &t.display), o)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer run.Close()
	if err := out.begin(); err != nil {
		return err
	}
	ctx, cancel := t.limited(ctx)
	defer cancel()
	return run.Trace(ctx)
}

// options returns what the flags say about a live run.
func (t *traceFlags) options(m *tracer) live.Options {
	o := m.console.streamOptions(t.count)
	o.Filter, o.Summary.Verbose = t.shown, t.verbose
	log := m.console.logger(t.verbose)
	log.Debug("tier", "tier", t.plan.Tier(), "because", t.plan.Why)
	return live.Options{
		Options: o,
		System:  m.system,
		Probe: probe.Options{
			Attachment: t.attach, Filter: t.selected.Filter, BufferSize: t.buffer, SharedCloses: t.shared, Stacks: t.stacks,
			CloseWait: t.wait, Log: log, Quiet: probe.Quiet{Active: t.plan.Active, Passive: t.plan.Passive},
		},
		Resolve:   m.console.resolverOptions(m.resolvers, t.stacks, t.names),
		Recording: t.record,
		Counters:  t.counters(m),
	}
}

// counters chooses the network namespace that the run is limited to, or this process's own.
func (t *traceFlags) counters(m *tracer) live.CounterOptions {
	own, err := m.targets.spaces.Own()
	o := live.CounterOptions{Netns: own}
	switch {
	case err != nil:
		o.Skip = err.Error()
	case t.filter.narrow():
		o.Skip = sink.FiltersUncounted
	case len(t.selected.Netns) == 0:
		o.Others = true
	case t.selected.Netns[0] != own && t.selected.paths[0] == "":
		o.Skip = fmt.Sprintf("network namespace %d has no process or name, by which it could be entered", t.selected.Netns[0])
	default:
		if first := t.selected.Netns[0]; first != own {
			o.Netns, o.Path = first, t.selected.paths[0]
		}
		o.Those = t.selected.Netns[1:]
		o.Others = len(o.Those) > 0
	}
	return o
}

// limited returns ctx, limited to --duration.
func (t *traceFlags) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if t.duration > 0 {
		return context.WithTimeout(ctx, t.duration)
	}
	return context.WithCancel(ctx)
}
