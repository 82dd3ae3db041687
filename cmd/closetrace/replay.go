package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/rawevent"
	"github.com/closetrace/closetrace/internal/record"
)

const replayAbout = `closetrace replay prints what closetrace -w FILE recorded. It needs no privileges, and works
on Linux and macOS.

With the same flags it prints the same lines. A recording contains everything that
passed the kernel-side filters, regardless of display filters, so replay can show more
or less. A damaged file is read up to the damage. FILE may be - for standard input.
Several files of one run (-C, -G) are read as one recording, whatever their order.

Recordings of several hosts are printed as one, by the clock of the first, each line
with its host. Both ends of a connection are found by their sequence numbers, also
through NAT, and WHY has what the other host did. The summary has the offsets of the
clocks. A connection with more than one candidate is not joined, but counted.
`

const replayExamples = `Examples:
  sudo closetrace -w today.rec.zst
  closetrace replay today.rec.zst
  closetrace replay --errors -o wide today.rec.zst
  closetrace replay --since 02:55 --until 03:10 today.rec.zst
  closetrace replay ring-*.rec.zst             the files of -C 100M
  closetrace replay web1.rec.zst db1.rec.zst   two hosts, both ends
  TZ=UTC closetrace replay today.rec.zst       times in another time zone
  ssh web1 cat today.rec.zst | closetrace replay -
`

// replayFlags are the flags of closetrace replay.
type replayFlags struct {
	filter  eventFilter
	shown   filter.Endings
	display display
	count   uint64
	// convert is the format to convert the recording to; empty: print its endings.
	convert format
}

func newReplay(c *console, dropAll func() error) *cobra.Command {
	r := &replayFlags{display: newDisplay(c.language)}
	r.display.recorded = true
	cmd := &cobra.Command{
		Use:   "replay FILE... [flags]",
		Short: "Print what closetrace -w FILE recorded",
		Args:  someFiles,
		RunE:  func(cmd *cobra.Command, files []string) error { return r.run(cmd.Context(), c, dropAll, files) },

		DisableFlagsInUseLine: true,
	}
	shown := endingFlags(&r.shown)
	momentFlags(shown, &r.shown)
	g := newGroup("Output")
	r.display.register(g)
	g.flags.Uint64Var(&r.count, "count", 0, "stop after `N` endings")
	g.flags.Var(convertChoice(&r.convert), "convert",
		"print the recording itself, whatever other flags say: as json, one line per event")
	helpFlag(g)
	m := manual{
		about:  replayAbout,
		groups: []flagGroup{r.filter.flags("inode:N"), shown, g},
		tail: hint.ExitCodes("no recording (2: cannot be opened), or output not written", hint.Usage, hint.Incomplete) +
			"\n" + replayExamples,
	}
	m.attach(cmd)
	completeEndings(cmd, "only", "not")
	r.display.complete(cmd)
	complete(cmd, "convert", convertChoice(&r.convert).Words())
	return cmd
}

func convertChoice(f *format) flagvalue.Choice[format] { return flagvalue.OneOf(f, formatJSON) }

func someFiles(cmd *cobra.Command, args []string) error {
	if err := intervalApart(cmd, args); err != nil {
		return err
	}
	switch {
	case len(args) == 0:
		return hint.New(hint.Usage, "no recording named", seeHelp(cmd))
	case len(args) > 1 && slices.Contains(args, "-"):
		return hint.New(hint.Usage, "standard input is one file", "name all files, or leave out -")
	}
	return nil
}

func (r *replayFlags) run(ctx context.Context, c *console, dropAll func() error, paths []string) error {
	selected, err := r.selected()
	if err != nil {
		return err
	}
	if err := r.filter.contradicts(&r.shown); err != nil {
		return err
	}
	files, err := pipeline.Open(ctx, c.stdin, paths)
	if err != nil {
		return err
	}
	defer pipeline.CloseAll(files)
	read := pipeline.Inputs(c.stdin, paths, files)
	out, closed, err := c.open(c.stdout, c.outputClosed, &r.display, pipeline.Others{Inputs: read})
	if err != nil {
		return err
	}
	if err := dropAll(); err != nil { // before the text of another machine is read
		return err
	}
	o := pipeline.ReplayOptions{Options: c.streamOptions(r.count), Events: selected, Narrow: r.filter.narrow()}
	o.Filter, o.OutputClosed, o.SummaryTo = r.shown, closed, r.display.summaryTo(out)
	r.display.apply(&o.Summary, &r.shown)
	return r.replay(ctx, c, files, out, o)
}

// replay prints the endings of files or, with --convert, what is recorded in them.
func (r *replayFlags) replay(
	ctx context.Context, c *console, files []*os.File, out output, o pipeline.ReplayOptions,
) error {
	if len(files) > 1 && r.convert == "" {
		all, err := pipeline.Recordings(files, c.stderr)
		if err != nil {
			return err
		}
		if len(all) > 1 {
			if err := out.begin(); err != nil {
				return err
			}
			return pipeline.ReplayHosts(ctx, all, c.sink(out, &r.display), o)
		}
		files = all[0].Files
	}
	in, err := record.Join(files, rawevent.Recorded)
	if err == nil {
		err = out.begin()
	}
	if err != nil {
		return err
	}
	if r.convert != "" {
		return pipeline.Convert(ctx, in, out)
	}
	o.Path = record.Name(files)
	return pipeline.Replay(ctx, in, c.sink(out, &r.display), o)
}

// selected returns the filter of events, with the network namespaces that --netns names.
func (r *replayFlags) selected() (filter.Events, error) {
	all := r.filter.recorded()
	for _, text := range r.filter.netns {
		inode, named := events.NetnsInode(text)
		switch {
		case !named:
			return all, hint.New(hint.Usage, "a recording has only the inode numbers of network namespaces",
				"use --netns inode:N; -o wide shows N in the column NETNS")
		case inode == 0:
			return all, hint.New(hint.Usage, fmt.Sprintf("%q is not an inode number", strings.TrimPrefix(text, "inode:")),
				"-o wide shows it in the column NETNS")
		}
		all.Netns = append(all.Netns, inode)
	}
	return all, nil
}

// momentFlags adds the filters by time.
func momentFlags(g flagGroup, shown *filter.Endings) {
	g.flags.Var(flagvalue.NewMoment(&shown.Since), "since",
		`only from this time on: "2026-11-28 14:30", 14:30 (of today), RFC 3339, or how long ago, such as 10m`)
	g.flags.Var(flagvalue.NewMoment(&shown.Until), "until", "only up to this time")
}
