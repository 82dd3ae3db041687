package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
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
	filter   probe.Filter
	netns    string
	output   format
	count    uint64
	duration time.Duration
	attach   probe.Mode
	buffer   int
	verbose  bool
}

func newTrace(e *env) *cobra.Command {
	t := &traceFlags{output: formatTable, attach: probe.Auto, buffer: probe.DefaultBufferSize}
	cmd := &cobra.Command{
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return t.run(cmd.Context(), e) },
	}
	other := newGroup("Other flags")
	other.flags.BoolP("help", "h", false, "print this")
	other.flags.Bool("version", false, "print the version")
	m := manual{
		about:  about,
		groups: []flagGroup{t.filterFlags(), t.outputFlags(), t.kernelFlags(), other},
		tail:   exitCodes + "\n" + examples,
	}
	m.attach(cmd)
	complete(cmd, "output", outputChoice(&t.output).words())
	complete(cmd, "attach", attachChoice(&t.attach).words())
	return cmd
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

func (t *traceFlags) filterFlags() flagGroup {
	g := newGroup("Filters (all must hold; within a list, any)")
	ports := func(list *[]uint16) numbers[uint16] { return numbers[uint16]{list, "port", 1<<16 - 1} }
	f := &t.filter
	g.flags.VarP(numbers[uint32]{&f.PIDs, "process id", 1 << 22}, "pid", "p", "by a call of one of these processes; leaves out what\nsegments and timers do")
	g.flags.VarP(ports(&f.Ports), "port", "P", "one of these ports, local or remote")
	g.flags.VarP(ports(&f.LocalPorts), "lport", "L", "one of these local ports")
	g.flags.VarP(ports(&f.RemotePorts), "rport", "D", "one of these remote ports")
	g.flags.BoolVarP(&f.IPv4, "ipv4", "4", false, "IPv4, also from an IPv6 socket")
	g.flags.BoolVarP(&f.IPv6, "ipv6", "6", false, "IPv6; with -4: both")
	g.flags.StringVar(&t.netns, "netns", "", "in this network namespace: a `NAME` of ip-netns, a path,\na process id, or inode:N")
	return g
}

func (t *traceFlags) outputFlags() flagGroup {
	g := newGroup("Output")
	g.flags.VarP(outputChoice(&t.output), "output", "o", "table; wide: with all evidence; json: an object per line")
	g.flags.Uint64Var(&t.count, "count", 0, "stop after `N` endings")
	g.flags.DurationVar(&t.duration, "duration", 0, "stop after `TIME`, as 10s or 5m")
	g.flags.BoolVarP(&t.verbose, "verbose", "v", false, "say on standard error what is attached, and what not, why")
	return g
}

func (t *traceFlags) kernelFlags() flagGroup {
	g := newGroup("Kernel side")
	g.flags.Var(attachChoice(&t.attach), "attach", "how: auto takes the first that works of fentry, kprobe,\ntracepoint")
	g.flags.Var(size{&t.buffer}, "buffer-size", "of the ring buffer, a power of two from 64K to 1G")
	return g
}

// check completes the filter, and finds what cannot be meant.
func (t *traceFlags) check(f *finder) (err error) {
	if t.duration < 0 {
		return &usageError{fmt.Sprintf("--duration: %q is not possible", t.duration), "a time lies ahead, as 10s or 5m"}
	}
	for _, pid := range t.filter.PIDs {
		if err := f.process(pid); err != nil {
			return err
		}
	}
	if t.netns != "" {
		t.filter.Netns, err = f.netns(t.netns)
	}
	return err
}

func (t *traceFlags) run(ctx context.Context, e *env) error {
	if err := t.check(&e.finder); err != nil {
		return err
	}
	out, err := newSink(e, t.output)
	if err != nil {
		return err
	}
	audit := t.newAudit(e)
	audit.mark()
	src, err := e.open(ctx, probe.Options{
		Attach: t.attach, Filter: t.filter, BufferSize: t.buffer, Log: logger(e, t.verbose),
	})
	if err != nil {
		return interrupted(ctx, err)
	}
	defer src.Close()
	audit.mark()
	h := src.Header()
	fmt.Fprintf(e.stderr, "closetrace: tracing on %s by %s; end with Ctrl-C\n", h.Kernel, h.Attach)
	if t.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.duration)
		defer cancel()
	}
	s := newStream(e, audited{src, audit}, out, t.count)
	s.owners = enrich.NewOwners(e.finder.proc)
	return trace(ctx, e, s, audit)
}

// trace lets the stream flow until ctx ends, and tells how much it was.
func trace(ctx context.Context, e *env, s *stream, a *audit) error {
	sum := sink.Summary{Audit: &a.Audit}
	s.taken = func(ev *events.Ending) { sum.Add(ev) }
	begin := time.Now()
	losses, err := s.flow(ctx)
	switch {
	case errors.Is(err, syscall.EPIPE):
		fmt.Fprintln(e.stderr, "closetrace: whoever read the output has closed it; ended")
		return nil
	case errors.Is(err, errStalled):
		return err // the stream still holds the summary
	}
	sum.Took = time.Since(begin)
	sum.LostRecords, sum.MissedProbes, sum.Suppressed = losses.LostRecords, losses.MissedProbes, losses.Suppressed
	sum.Undecodable, sum.Unexplained = s.undecodable, s.classifier.Unexplained
	a.finish(s)
	if printErr := sum.Print(e.stderr); err == nil {
		err = printErr
	}
	return err
}

// newSink is the sink for a format, on standard output.
func newSink(e *env, f format) (endings, error) {
	if f == formatJSON {
		return sink.NewJSONL(e.stdout), nil
	}
	return sink.NewTable(e.stdout, sink.TableOptions{Width: e.width, Wide: f == formatWide})
}

// interrupted drops an error that only says that the user wanted no more.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}
