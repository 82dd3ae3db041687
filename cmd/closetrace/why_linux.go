package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/live"
	"github.com/closetrace/closetrace/internal/plan"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/why"
)

// What the help and a hint say of --wait.
const (
	whyWaits       = "; --wait traces until the connection ends"
	whyWaitExample = "  sudo closetrace why --wait --duration 5m 10.0.0.9:443\n"
	orWait         = ", or --wait for the next time"
)

// whyNeedsPrivileges reports whether closetrace why traces.
func whyNeedsPrivileges(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--wait") })
}

// waitFlags are the flags of closetrace why that trace.
type waitFlags struct {
	active   bool // --wait is given
	duration time.Duration
	attach   probe.Attachment
	verbose  bool
}

func newWaitFlags() waitFlags { return waitFlags{attach: probe.Attachment{Attach: probe.Auto}} }

func (w *waitFlags) flags(g flagGroup) {
	g.flags.BoolVar(&w.active, "wait", false, "trace until the connection ends")
	g.flags.Var(flagvalue.Duration{Time: &w.duration}, "duration", "with --wait: stop after `TIME`, for example 10s or 5m")
}

func (w *waitFlags) kernelFlags(g flagGroup) {
	attachFlag(g, &w.attach)
	verboseFlag(g, &w.verbose)
}

func (w *waitFlags) complete(cmd *cobra.Command) {
	complete(cmd, "attach", attachChoice(&w.attach).Words())
}

// settle is how long a trace goes on after the first ending of the connection, for those of its other end.
const settle = time.Second

// trace traces until the connection ends. The processes must exist.
func (w *waitFlags) trace(ctx context.Context, s *system, pids []uint32, to *why.Collector) error {
	flags := newTraceFlags(s.console)
	flags.attach, flags.verbose, flags.duration, flags.tier = w.attach, w.verbose, w.duration, plan.Full
	flags.shown.PIDs = pids
	if err := flags.check(&s.tracer); err != nil {
		return err
	}
	flags.shown.PIDs = nil // the other end's too
	o := flags.options(&s.tracer)
	run, err := live.Start(ctx, to, o)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer run.Close()
	ctx, cancel := flags.limited(ctx)
	defer cancel()
	to.OnMatch = func() {
		to.OnMatch = nil
		time.AfterFunc(settle, cancel)
	}
	_, err = run.Flow(ctx)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
