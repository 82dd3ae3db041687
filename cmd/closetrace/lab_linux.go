package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/labrun"
	"github.com/closetrace/closetrace/internal/ladder"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/plan"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sockets"
)

const labAbout = `closetrace lab provokes every path an ending can take on this machine, with real sockets
in private network namespaces. It traces them, and compares the endings it reports and
the kernel's counters with those that each scenario must cause.

Without a NAME it runs all scenarios; --list shows them. --tour begins with eight of
them, each with what both ends did and why. Two scenarios run only by NAME, because they
set net.ipv4.tcp_max_orphans=0 for a moment, and the kernel then resets closed connections
of other programs as well: abort.orphan.oom and close.rst.oom.
`

const labExamples = `Examples:
  sudo closetrace lab --tour
  sudo closetrace lab
  sudo closetrace lab close.rst.unread close.rst.linger0
  sudo closetrace lab --attach tracepoint
  closetrace lab --list
`

// labSystem is what lab uses of this machine.
type labSystem struct {
	console  *console
	open     func(context.Context, probe.Options) (pipeline.Source, error)
	sockDiag func() *sockets.Source
}

// labFlags are the flags of closetrace lab.
type labFlags struct {
	list, tour bool
	output     format
	attach     probe.Attachment
	tier       plan.Tier
	record     string
	verbose    bool
}

func newLab(m labSystem) *cobra.Command {
	l := &labFlags{output: formatTable, attach: probe.Attachment{Attach: probe.Auto}, tier: plan.Full}
	cmd := &cobra.Command{
		Use:   "lab [NAME...] [flags]",
		Short: "Provoke the paths with real sockets, and check what is reported",
		RunE:  func(cmd *cobra.Command, names []string) error { return l.run(cmd.Context(), m, names) },
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return scenarioNames(), cobra.ShellCompDirectiveNoFileComp
		},
		DisableFlagsInUseLine: true,
	}
	g := newGroup("Flags")
	output := flagvalue.OneOf(&l.output, formatTable, formatJSON)
	g.flags.BoolVar(&l.list, "list", false, "list the scenarios and run none")
	g.flags.BoolVar(&l.tour, "tour", false, "show eight endings that most users meet, then a line per family")
	g.flags.VarP(output, "output", "o", "table, or json: an object per scenario")
	attachFlag(g, &l.attach)
	g.flags.Var(labTierChoice(&l.tier), "tier",
		"full, or quiet: the kernel only counts ordinary closes, which a scenario may then miss")
	g.flags.Var(flagvalue.File{Path: &l.record}, "record", "record the events to `DIR`/NAME/events.MODE.jsonl")
	verboseFlag(g, &l.verbose)
	helpFlag(g)
	codes := hint.LiveExitCodes("a scenario failed")
	help := manual{about: labAbout, groups: []flagGroup{g}, tail: codes + "\n" + labExamples}
	help.attach(cmd)
	complete(cmd, "output", output.Words())
	complete(cmd, "attach", attachChoice(&l.attach).Words())
	complete(cmd, "tier", labTierChoice(&l.tier).Words())
	return cmd
}

func labTierChoice(t *plan.Tier) flagvalue.Choice[plan.Tier] {
	return flagvalue.OneOf(t, plan.Full, plan.Quiet)
}

// scenariosNamed returns the scenarios of these names, or all.
func scenariosNamed(names []string) ([]*lab.Scenario, error) {
	if len(names) == 0 {
		return lab.Scenarios()
	}
	var found []*lab.Scenario
	for _, name := range names {
		sc, err := lab.Find(name)
		if err != nil {
			next := flagvalue.Suggest(name, scenarioNames(), "closetrace lab --list shows the names")
			return nil, hint.New(hint.Usage, err.Error(), next)
		}
		found = append(found, sc)
	}
	return found, nil
}

func (l *labFlags) run(ctx context.Context, m labSystem, names []string) error {
	scenarios, err := scenariosNamed(names)
	if err != nil {
		return err
	}
	if l.tour && (len(names) > 0 || l.list || l.output == formatJSON || l.record != "") {
		return hint.New(hint.Usage, "--tour takes no name, and no other flag about the output", "closetrace lab --tour")
	}
	if l.list {
		return labrun.List(m.console.stdout, scenarios, l.output == formatJSON)
	}
	lab.LoadFirewall(scenarios)
	// Without --close-wait, every FIN is reported. In the quiet tier it is counted once its close is.
	var wait time.Duration
	if l.tier == plan.Quiet {
		wait = defaultCloseWait
	}
	chosen, err := plan.Choose(l.tier, plan.Needs{Recorded: l.record != "", CloseWait: wait})
	if err != nil {
		return err
	}
	src, err := m.open(ctx, probe.Options{
		Attachment: l.attach, BufferSize: probe.DefaultBufferSize, SharedCloses: true, CloseWait: wait,
		Quiet: probe.Quiet{Active: chosen.Active, Passive: chosen.Passive}, Log: m.console.logger(l.verbose),
	})
	if err != nil {
		return interrupted(ctx, err)
	}
	defer src.Close()
	return labrun.Run(ctx, src, scenarios, labrun.Options{
		Stream: m.console.streamOptions(0), Stdout: m.console.stdout, JSON: l.output == formatJSON, Record: l.record,
		Named: len(names) > 0, Quiet: chosen.Tier() == plan.Quiet,
		Tour: l.tour, Layout: ladder.Layout{Width: m.console.stdout.width, ASCII: ladder.OnlyASCII(os.Getenv)},
		Sockets: m.sockDiag(), // the live tests compare the iterators with it
	})
}
