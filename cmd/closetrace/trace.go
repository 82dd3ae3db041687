package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/runtimes"
	"github.com/closetrace/closetrace/internal/sink"
)

// format is how endings are written.
type format string

const (
	formatTable format = "table"
	formatWide  format = "wide"
	formatJSON  format = "json"
)

// traceFlags are what the command line says about a live trace.
type traceFlags struct {
	filter   facts
	shown    filter.Endings
	output   format
	color    colorWhen
	count    uint64
	duration time.Duration
	record   string
	wait     time.Duration // in CLOSE_WAIT
	attach   probe.Mode
	shared   bool
	stacks   bool
	names    bool // of containers
	buffer   int
	verbose  bool
}

func newTraceFlags() traceFlags {
	return traceFlags{output: formatTable, color: colorAuto, wait: defaultCloseWait, attach: probe.Auto, buffer: probe.DefaultBufferSize}
}

func newTrace(e *env) *cobra.Command {
	flags := newTraceFlags()
	t := &flags
	cmd := &cobra.Command{
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return t.run(cmd.Context(), e) },
	}
	other := newGroup("Other flags")
	other.flags.BoolP("help", "h", false, "print this")
	other.flags.Bool("version", false, "print the version")
	m := manual{
		about:  about,
		groups: append(t.filterFlags(), t.outputFlags(), t.kernelFlags(), other),
		tail:   exitCodes + "\n" + examples,
	}
	m.attach(cmd)
	t.complete(cmd)
	complete(cmd, "output", outputChoice(&t.output).words())
	return cmd
}

// complete tells the shell which words the flags take that any live command has.
func (t *traceFlags) complete(cmd *cobra.Command) {
	completeEndings(cmd, "only", "not")
	complete(cmd, "color", colorChoice(&t.color).words())
	complete(cmd, "attach", attachChoice(&t.attach).words())
}

func (t *traceFlags) filterFlags() []flagGroup {
	return []flagGroup{t.filter.flags("a `NAME` of ip-netns, a path, a process id, or inode:N"), endingFlags(&t.shown)}
}

// complete tells the shell which words a flag takes.
func complete(cmd *cobra.Command, flag string, words []string) {
	// It fails for a flag that does not exist, which a test would notice.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

func outputChoice(f *format) choice[format] {
	return choice[format]{f, []format{formatTable, formatWide, formatJSON}}
}

func attachChoice(m *probe.Mode) choice[probe.Mode] {
	return choice[probe.Mode]{m, []probe.Mode{probe.Auto, probe.Fentry, probe.Kprobe, probe.Tracepoint}}
}

func (t *traceFlags) outputFlags() flagGroup {
	g := newGroup("Output")
	g.flags.VarP(outputChoice(&t.output), "output", "o", "table; wide: with all evidence; json: an object per line")
	colorFlag(g.flags, &t.color)
	g.flags.Uint64Var(&t.count, "count", 0, "stop after `N` endings")
	t.durationFlag(g)
	closeWaitFlag(g, &t.wait)
	g.flags.BoolVar(&t.stacks, "stack", false, "where each call came from, in the program and in the kernel")
	namesFlag(g, &t.names)
	g.flags.StringVarP(&t.record, "write", "w", "", "record what is traced to `FILE`, shown or not; FILE.zst is compressed; closetrace replay tells it again")
	t.verboseFlag(g)
	return g
}

func namesFlag(g flagGroup, names *bool) {
	g.flags.BoolVar(names, "container-names", false, "know containers by name, too: ask their runtimes for it, at the sockets of their APIs")
}

// defaultCloseWait is longer than a server takes that has something left to do.
const defaultCloseWait = 10 * time.Second

func closeWaitFlag(g flagGroup, wait *time.Duration) {
	g.flags.DurationVar(wait, "close-wait", *wait, "tell of a FIN received once this side has not answered it for `TIME`; 0s: of each FIN received, at once")
}

func (t *traceFlags) durationFlag(g flagGroup) {
	g.flags.DurationVar(&t.duration, "duration", 0, "stop after `TIME`, as 10s or 5m")
}

func (t *traceFlags) verboseFlag(g flagGroup) {
	g.flags.BoolVarP(&t.verbose, "verbose", "v", false, "say on standard error what is attached, and what not, why")
}

func (t *traceFlags) kernelFlags() flagGroup {
	g := newGroup("Kernel side")
	g.flags.Var(attachChoice(&t.attach), "attach", "how: auto takes the first that works of fentry, kprobe, tracepoint")
	g.flags.BoolVar(&t.shared, "shared-closes", false, "also a close(2) that closes nothing, as another descriptor or a blocked call holds the socket; looks at each close(2) of any file, in tracepoint mode at each system call")
	g.flags.Var(size{&t.buffer}, "buffer-size", "of the ring buffer, a power of two from 64K to 1G")
	return g
}

// check completes the filter, and finds what cannot be meant.
func (t *traceFlags) check(e *env) error {
	f := &e.finder
	if t.duration < 0 {
		return &usageError{fmt.Sprintf("--duration: %q is not possible", t.duration), "a time lies ahead, as 10s or 5m"}
	}
	if err := checkCloseWait(t.wait); err != nil {
		return err
	}
	for _, pid := range t.filter.PIDs {
		if err := f.process(pid); err != nil {
			return err
		}
	}
	if t.names {
		f.runtimes = e.runtimes
	}
	return t.filter.find(f)
}

func checkCloseWait(wait time.Duration) error {
	if wait < 0 {
		return &usageError{fmt.Sprintf("--close-wait: %q is not possible", wait), "it is how long a FIN may stay unanswered, as 10s; 0s tells of each at once"}
	}
	return nil
}

func (t *traceFlags) run(ctx context.Context, e *env) error {
	if err := t.check(e); err != nil {
		return err
	}
	out, err := newSink(e, t.output, t.color)
	if err != nil {
		return err
	}
	s, audit, err := t.begin(ctx, e, out)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer s.source.Close()
	ctx, cancel := t.limited(ctx)
	defer cancel()
	return trace(ctx, e, s, audit)
}

// begin attaches, and returns the stream from there to out. The caller closes
// its source.
func (t *traceFlags) begin(ctx context.Context, e *env, out endings) (*stream, *audit, error) {
	audit := t.newAudit(e)
	audit.mark()
	log := logger(e, t.verbose)
	look := e.lookUps(log, t.stacks, t.names)
	src, err := e.open(ctx, probe.Options{
		Attach: t.attach, Filter: t.filter.Filter, BufferSize: t.buffer, SharedCloses: t.shared, Stacks: t.stacks, CloseWait: t.wait, Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	h := src.Header()
	rec, err := e.newRecording(t.record, h, audit.Netns)
	if err != nil {
		return nil, nil, errors.Join(err, src.Close())
	}
	if unseen := kernel.Unseen(general(e.privileges())); len(unseen) > 0 {
		log.Warn("not seen for want of privileges", "unseen", unseen)
	}
	if err := e.drop(audit.entersNetns()); err != nil {
		log.Warn("more privileges are kept than are needed", "because", err)
	}
	audit.mark()
	fmt.Fprintf(e.stderr, "closetrace: tracing on %s by %s; end with Ctrl-C\n", oneLine(h.Kernel), h.Attach)
	s := newStream(e, audited{src, audit}, out, t.count)
	s.lookUp(look, t.record != "")
	if !t.shown.Empty() {
		s.wanted = t.shown.Wants
	}
	s.record = rec
	return s, audit, nil
}

// limited is ctx that ends after --duration.
func (t *traceFlags) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if t.duration > 0 {
		return context.WithTimeout(ctx, t.duration)
	}
	return context.WithCancel(ctx)
}

// lookUps find what the kernel side does not say.
type lookUps struct {
	owner func(*events.Event)   // who holds a socket: may search /proc
	rest  []func(*events.Event) // what cgroups are called and, where asked for, the functions of a stack, and containers
}

func (e *env) lookUps(log *slog.Logger, stacks, names bool) lookUps {
	l := lookUps{owner: enrich.NewOwners(e.finder.proc).Fill}
	if stacks {
		l.rest = append(l.rest, enrich.NewStacks(e.finder.proc).Fill)
	}
	name, err := e.cgroups()
	if err != nil {
		log.Info("no cgroup is named", "because", err)
		return l
	}
	l.rest = append(l.rest, name)
	if names {
		l.rest = append(l.rest, runtimes.New(e.runtimes, e.answerIn, log).Fill)
	}
	return l
}

// general are privileges that any run makes use of.
func general(all []kernel.Privilege) []kernel.Privilege {
	return slices.DeleteFunc(all, func(p kernel.Privilege) bool { return p.Flag != "" })
}

// trace lets the stream flow until ctx ends, tells how much it was, and completes
// the record.
func trace(ctx context.Context, e *env, s *stream, a *audit) error {
	sum := sink.Summary{Audit: &a.Audit}
	s.taken, s.leftOut, s.either = sum.Add, sum.LeaveOut, a.Add
	begin := time.Now()
	losses, err := s.flow(ctx)
	sum.Took = time.Since(begin)
	sum.LostRecords, sum.MissedProbes, sum.Suppressed = losses.LostRecords, losses.MissedProbes, losses.Suppressed
	sum.Undecodable, sum.Unexplained = s.undecodable, s.classifier.Unexplained
	sum.Unwritten = s.unwritten + linesLost(s.sinkErr)
	a.finish(s)
	if errors.Is(err, syscall.EPIPE) {
		fmt.Fprintln(e.stderr, "closetrace: whoever read the output has closed it; ended")
		return s.record.End(endOf(&sum))
	}
	if keepErr := s.record.End(endOf(&sum)); err == nil {
		err = keepErr
	}
	if printErr := sum.Print(e.stderr); err == nil {
		err = printErr
	}
	return err
}

// newSink is the sink for a format, on standard output.
func newSink(e *env, f format, c colorWhen) (endings, error) {
	return newSinkTo(e.patient(e.stdout), f, sink.TableOptions{Width: e.width, Color: c.means(e.color)})
}

func newSinkTo(w io.Writer, f format, o sink.TableOptions) (endings, error) {
	if f == formatJSON {
		return sink.NewJSONL(w), nil
	}
	o.Wide = f == formatWide
	return sink.NewTable(w, o)
}

// interrupted drops an error that only says that the user wanted no more.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}
