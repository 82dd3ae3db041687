package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/probe"
)

const labAbout = `closetrace lab provokes every path an ending can take: here, now, with real sockets
in a private network namespace. It traces itself doing so, and compares what it
sees, and what the kernel counts, with what has to be.

Without a NAME it runs all scenarios; --list shows them.
`

const labExamples = `Examples:
  sudo closetrace lab
  sudo closetrace lab close.rst.unread close.rst.linger0
  sudo closetrace lab --attach tracepoint
  closetrace lab --list
`

// labFlags are what the command line says about a run of the lab.
type labFlags struct {
	list    bool
	output  format
	attach  probe.Mode
	record  string
	verbose bool
}

func newLab(e *env) *cobra.Command {
	l := &labFlags{output: formatTable, attach: probe.Auto}
	cmd := &cobra.Command{
		Use:   "lab [NAME...] [flags]",
		Short: "Provoke every path here, and compare what is seen with what has to be",
		RunE:  func(cmd *cobra.Command, names []string) error { return l.run(cmd.Context(), e, names) },
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return scenarioNames(), cobra.ShellCompDirectiveNoFileComp
		},
		DisableFlagsInUseLine: true,
	}
	g := newGroup("Flags")
	output := choice[format]{&l.output, []format{formatTable, formatJSON}}
	g.flags.BoolVar(&l.list, "list", false, "list the scenarios and run none")
	g.flags.VarP(output, "output", "o", "table, or json: an object per scenario")
	g.flags.Var(attachChoice(&l.attach), "attach", "how: auto takes the first that works of fentry, kprobe, tracepoint")
	g.flags.StringVar(&l.record, "record", "", "keep the events as `DIR`/NAME/events.MODE.jsonl")
	g.flags.BoolVarP(&l.verbose, "verbose", "v", false, "say on standard error what is attached, and what not, why")
	g.flags.BoolP("help", "h", false, "print this")
	m := manual{about: labAbout, groups: []flagGroup{g}, tail: exitCodes + "\n" + labExamples}
	m.attach(cmd)
	complete(cmd, "output", output.words())
	complete(cmd, "attach", attachChoice(&l.attach).words())
	return cmd
}

func scenarioNames() []string {
	all, err := lab.Scenarios()
	if err != nil {
		return nil
	}
	var names []string
	for _, sc := range all {
		names = append(names, sc.Name)
	}
	return names
}

// chosen are the scenarios of these names, or all.
func chosen(names []string) ([]*lab.Scenario, error) {
	if len(names) == 0 {
		return lab.Scenarios()
	}
	var some []*lab.Scenario
	for _, name := range names {
		sc, err := lab.Find(name)
		if err != nil {
			return nil, &usageError{err.Error(), nearest(name, scenarioNames(), "closetrace lab --list shows the names")}
		}
		some = append(some, sc)
	}
	return some, nil
}

func (l *labFlags) run(ctx context.Context, e *env, names []string) error {
	scenarios, err := chosen(names)
	if err != nil {
		return err
	}
	if l.list {
		return list(e, scenarios)
	}
	src, err := e.open(ctx, probe.Options{
		Attach: l.attach, BufferSize: probe.DefaultBufferSize, SharedCloses: true, Log: logger(e, l.verbose),
	})
	if err != nil {
		return interrupted(ctx, err)
	}
	defer src.Close()
	h := src.Header()
	fmt.Fprintf(e.stderr, "closetrace: lab on %s by %s\n", h.Kernel, h.Attach)

	s := &session{env: e, header: h, tally: tally{format: l.output, out: e.stdout}, record: l.record}
	losses, err := s.runAll(ctx, newStream(e, src, &s.witness, 0), scenarios)
	if errors.Is(err, syscall.EPIPE) {
		fmt.Fprintln(e.stderr, "closetrace: whoever read the output has closed it; ended")
		return nil
	}
	if err != nil {
		return err
	}
	if losses != (probe.Losses{}) {
		fmt.Fprintf(e.stderr, "closetrace: %d records lost, %d probes missed, %d RSTs in reply not reported: a scenario may have failed for that\n",
			losses.LostRecords, losses.MissedProbes, losses.Suppressed)
	}
	return s.tally.finish(e.stderr, h)
}

func list(e *env, scenarios []*lab.Scenario) error {
	width := 0
	for _, sc := range scenarios {
		width = max(width, utf8.RuneCountInString(sc.Name))
	}
	for _, sc := range scenarios {
		if _, err := fmt.Fprintf(e.stdout, "%-*s  %s\n", width, sc.Name, sc.Title); err != nil {
			return outputError(err)
		}
	}
	return nil
}

// session is a run of the lab.
type session struct {
	env     *env
	header  events.Header
	witness witness
	tally   tally
	record  string // where to keep events, if anywhere
}

// runAll runs the scenarios while the stream flows.
func (s *session) runAll(ctx context.Context, st *stream, scenarios []*lab.Scenario) (probe.Losses, error) {
	if s.record != "" {
		st.record = factWitness{of: &s.witness}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var losses probe.Losses
	flowed := make(chan error, 1)
	go func() {
		var err error
		losses, err = st.flow(ctx)
		stop() // if it ended by itself, nothing more will be seen
		flowed <- err
	}()
	err := s.runEach(ctx, scenarios)
	stop()
	if streamErr := <-flowed; streamErr != nil {
		err = streamErr // the cause of what else went wrong
	}
	return losses, err
}

// sideBySide is how many scenarios run at a time: most of it is waiting.
const sideBySide = 16

// runEach first runs the scenarios that have to run alone, so that none waits
// for the others to end, and then the rest, several at a time. While recording
// it is one at a time: a record holds the events of its scenario only.
func (s *session) runEach(ctx context.Context, scenarios []*lab.Scenario) error {
	var alone, rest []*lab.Scenario
	for _, sc := range scenarios {
		if sc.Alone() || s.record != "" {
			alone = append(alone, sc)
		} else {
			rest = append(rest, sc)
		}
	}
	for _, sc := range alone {
		if err := s.runOne(ctx, sc); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(sideBySide)
	for _, sc := range rest {
		group.Go(func() error { return s.runOne(ctx, sc) })
	}
	return group.Wait()
}

// runOne runs a scenario and tells its verdict. An error ends the whole run.
func (s *session) runOne(ctx context.Context, sc *lab.Scenario) error {
	v, err := again(s.env.stderr, func() (*verdict, error) { return s.attempt(ctx, sc) })
	if err != nil {
		return err
	}
	return outputError(s.tally.add(v))
}

// attempts is how often a scenario is provoked, if the kernel does something else.
const attempts = 3

// again returns the verdict of the first attempt in which the kernel did what was
// provoked, or else of the last: on a busy machine a timer may come first.
func again(told io.Writer, attempt func() (*verdict, error)) (*verdict, error) {
	for left := attempts; ; left-- {
		v, err := attempt()
		if err != nil || !v.otherwise || left == 1 {
			return v, err
		}
		fmt.Fprintf(told, "closetrace: %s once more, as the kernel did something else than was provoked: %s\n",
			v.Name, strings.Join(v.Mismatches, "; "))
	}
}

// attempt runs a scenario once.
func (s *session) attempt(ctx context.Context, sc *lab.Scenario) (*verdict, error) {
	if ctx.Err() != nil {
		return nil, errors.New("interrupted")
	}
	var open stillOpen
	res, err := sc.Run(ctx, func(res *lab.Result) {
		s.settle(ctx, sc, res)
		open = s.lookAt(ctx, sc, res)
	})
	defer s.witness.forget(res)
	switch {
	case ctx.Err() != nil:
		return nil, errors.New("interrupted")
	case errors.Is(err, syscall.EPERM) && res.Netns == 0:
		return nil, &kernel.Error{
			Kind: kernel.ErrPrivilege, What: "the lab may not make a network namespace: " + err.Error(),
			Next: "run as root: sudo closetrace lab",
		}
	}
	v := newVerdict(sc, s.header.Attach)
	switch {
	case err != nil:
		v.fail(err.Error())
		v.otherwise = true
	case res.NotPossible != "":
		v.Verdict, v.Reason = notPossible, res.NotPossible
	default:
		v.judge(sc, res, s.witness.endings(sc, res))
		v.judgeOpen(&open)
		if s.record != "" {
			if err := keep(s.record, sc, s.header, res, s.witness.facts(res)); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}
