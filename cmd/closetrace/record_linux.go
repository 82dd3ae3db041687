package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/live"
	"github.com/closetrace/closetrace/internal/pipeline"
)

const recordAbout = `closetrace record only records: it prints no endings and draws no conclusions, so that it
costs less than closetrace -w. closetrace replay prints the endings later.

It records everything that passes the kernel-side filters, until it is interrupted. It
looks up the process that holds a socket at once, except for FINs received. --trigger
needs the conclusions: with it, it costs what closetrace -w does.
`

const recordExamples = `Examples:
  sudo closetrace record -w today.rec.zst
  sudo closetrace record -w ring.rec.zst -C 100M -W 20      2 GB at most
  sudo closetrace record -w rst.rec.zst --trigger rst:1m,5s
  sudo closetrace record -L 443 --duration 10m -w https.rec.zst
  closetrace replay --errors today.rec.zst
`

func newRecord(m tracer) *cobra.Command {
	flags := newTraceFlags(m.console)
	t := &flags
	cmd := &cobra.Command{
		Use:   "record -w FILE [flags]",
		Short: "Record to a file, for closetrace replay",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return t.runRecord(cmd, m) },

		DisableFlagsInUseLine: true,
	}
	g := newGroup("Recording")
	t.recordingFlags(g)
	t.durationFlag(g)
	closeWaitFlag(g, &t.wait)
	stackFlag(g, &t.stacks)
	namesFlag(g, &t.names)
	verboseFlag(g, &t.verbose)
	helpFlag(g)
	kernelSide := newGroup("Kernel side")
	attachFlag(kernelSide, &t.attach)
	t.sharedFlag(kernelSide)
	bufferFlag(kernelSide, &t.buffer)
	help := manual{
		about:  recordAbout,
		groups: []flagGroup{t.filter.flags(netnsNames), g, kernelSide},
		tail:   hint.LiveExitCodes("recording failed, for example because the disk is full") + "\n" + recordExamples,
	}
	help.attach(cmd)
	complete(cmd, "attach", attachChoice(&t.attach).Words())
	completeList(cmd, "trigger", flagvalue.PatternWords())
	return cmd
}

func (t *traceFlags) runRecord(cmd *cobra.Command, m tracer) error {
	if t.record.Path == "" {
		return hint.New(hint.Usage, "no file to record to", "closetrace record -w FILE; "+seeHelp(cmd))
	}
	ctx := cmd.Context()
	if err := t.check(&m); err != nil {
		return err
	}
	o := t.options(&m)
	o.Recording.Only, o.LossesTo, o.OutputClosed = true, o.Stderr, nil
	run, err := live.Start(ctx, pipeline.DiscardSink{}, o)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer run.Close()
	var stop context.CancelFunc
	ctx, stop = t.limited(ctx)
	defer stop()
	return run.Record(ctx)
}
