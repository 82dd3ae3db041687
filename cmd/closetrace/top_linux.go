package main

import (
	"context"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/live"
	"github.com/closetrace/closetrace/internal/stdio"
	"github.com/closetrace/closetrace/internal/top"
	"github.com/closetrace/closetrace/internal/top/screen"
)

const topAbout = `closetrace top counts endings live on a full screen, per second and in total: by path,
process, remote host, port of the service, service (here or a remote host, and its
port), container, cgroup or pair of hosts. It also shows the last endings of each group.
Closes without an effect are not counted, unless --only or --all asks for them.

Keys: up, down, page up, page down, home and end select a group, enter shows its last
endings, ? explains its path, esc goes back, tab changes the grouping, s changes the
sort column, e shows only what ended abnormally, / only the groups with a text, space
freezes the screen while counting goes on, z resets the counts, q quits and prints the
summary.
`

const topExamples = `Examples:
  sudo closetrace top
  sudo closetrace top --by process --sort errors
  sudo closetrace top -L 443 --only rst
`

// topFlags are the flags of closetrace top.
type topFlags struct {
	traceFlags
	by    top.Grouping
	order top.Order
}

func newTop(m tracer, term string) *cobra.Command {
	t := &topFlags{traceFlags: newTraceFlags(m.console), by: top.ByPath, order: top.ByRate}
	cmd := &cobra.Command{
		Use:   "top [flags]",
		Short: "Count endings live on a full screen",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return t.run(cmd.Context(), m, term) },
	}
	by, order := flagvalue.OneOf(&t.by, top.Groupings()...), flagvalue.OneOf(&t.order, top.Orders()...)
	g := newGroup("Screen")
	g.flags.Var(by, "by", "initial grouping: "+strings.Join(by.Words(), ", "))
	g.flags.Var(order, "sort", "initial sort column: rate, total, errors or name")
	colorFlag(g.flags, &t.display.color)
	languageFlag(g, &t.display.language, "of WHY, of explanations and of the summary: ")
	t.display.allFlag(g, "also count closes without an effect")
	namesFlag(g, &t.names)
	t.durationFlag(g)
	verboseFlag(g, &t.verbose)
	helpFlag(g)
	help := manual{
		about:  topAbout,
		groups: append(t.filterFlags(), g, t.kernelFlags()),
		tail:   hint.LiveExitCodes("tracing failed") + "\n" + topExamples,
	}
	help.attach(cmd)
	t.complete(cmd)
	complete(cmd, "color", colorChoice(&t.display.color).Words())
	complete(cmd, "by", by.Words())
	complete(cmd, "sort", order.Words())
	completeLanguage(cmd)
	return cmd
}

func (t *topFlags) run(ctx context.Context, m tracer, term string) error {
	c := *m.console
	if !stdio.IsTerminal(c.stdin) || !stdio.IsTerminal(c.stdout.file) || term == "" || term == "dumb" {
		return hint.New(hint.Usage, "top needs a terminal", "closetrace -o json prints lines for a program")
	}
	if err := t.check(&m); err != nil {
		return err
	}
	if err := screen.ForgetFiles(); err != nil {
		return err
	}
	// By default these signals end the process, which would leave the terminal in raw mode.
	ctx, restore := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT)
	defer restore()
	counts, stderr := screen.NewCounts(kernel.MonoNow), screen.NewDelayedWriter(c.stderr)
	c.stderr.Writer = stderr
	m.console = &c
	o := t.options(&m)
	t.display.apply(&o.Summary, &t.shown)
	run, err := live.Start(ctx, counts, o)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer run.Close()
	ctx, stop := t.limited(ctx)
	defer stop()
	h := run.Header()
	return screen.Show(ctx, counts, screen.Options{
		In: c.stdin, Out: c.stdout.file, Stderr: stderr, Color: t.display.color.enabled(c.stdout.color),
		By: t.by, Sort: t.order, Say: t.display.language.Say(), ASCII: c.stdout.isASCII && t.display.isEnglish(),
		Kernel: h.Kernel, Attach: h.Attach,
		Losses:  func() screen.Losses { return screen.Losses(run.Losses()) },
		Explain: explain.PathText(t.display.language),
		Trace: func(ctx context.Context, onPanic func()) error {
			run.OnPanic(onPanic)
			return run.Trace(ctx)
		},
	})
}
