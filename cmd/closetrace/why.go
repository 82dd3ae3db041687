package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/ladder"
	"github.com/closetrace/closetrace/internal/live"
	"github.com/closetrace/closetrace/internal/logline"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/plan"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/why"
)

const whyName = "why"

// whyNeedsPrivileges reports whether closetrace why traces.
func whyNeedsPrivileges(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--wait") })
}

const whyAbout = `closetrace why prints how one connection ended: what both ends did, in time order, what
each application gets, the cause, and how to avoid it.

The connection is named by the addresses of its ends, or by a line of a log that has
them, as Go, nginx, HAProxy, Python, Java, Node, curl, databases, ss or tcpdump print
them. A port or an address alone also works. --from reads recordings, of both hosts if
they are given; --wait traces until the connection ends. If several connections match,
the newest is printed, first those with the error of the line, and the others are listed.
`

const whyExamples = `Examples:
  closetrace why 10.0.0.5:33042 10.0.0.9:443 --from night.rec.zst
  closetrace why --from night.rec.zst 'read tcp 10.0.0.5:33042->10.0.0.9:443: read: connection reset by peer'
  closetrace why :33042 --from web1.rec.zst --from db1.rec.zst
  closetrace why --pid 977 --from monday.rec.zst --from tuesday.rec.zst
  sudo closetrace why --wait --duration 5m 10.0.0.9:443
`

// whySystem is what why uses of this machine.
type whySystem struct {
	tracer  tracer
	dropAll func() error
	ascii   bool // the terminal has no other characters
}

func (s *system) why() whySystem {
	return whySystem{tracer: s.tracer, dropAll: s.dropAll, ascii: ladder.OnlyASCII(os.Getenv)}
}

// whyFlags are the flags of closetrace why.
type whyFlags struct {
	pids     []uint32
	from     []string
	wait     bool
	duration time.Duration
	attach   probe.Attachment
	verbose  bool
	language explain.Language
	output   format
}

func newWhy(m whySystem) *cobra.Command {
	w := &whyFlags{output: formatText, attach: probe.Attachment{Attach: probe.Auto}, language: m.tracer.console.language}
	cmd := &cobra.Command{
		Use:   whyName + " [ADDRESS:PORT ADDRESS:PORT | 'LOG LINE'] [flags]",
		Short: "Print how one connection ended, and why",
		RunE:  func(cmd *cobra.Command, args []string) error { return w.run(cmd, m, args) },

		DisableFlagsInUseLine: true,
	}
	g := newGroup("Flags")
	g.flags.VarP(flagvalue.PIDs(&w.pids), "pid", "p",
		"connections of this process")
	g.flags.Var(flagvalue.Files{List: &w.from}, "from",
		"a recording of closetrace -w, or - for standard input; repeat it for several, also of several hosts")
	g.flags.BoolVar(&w.wait, "wait", false, "trace until the connection ends")
	g.flags.Var(flagvalue.Duration{Time: &w.duration}, "duration", "with --wait: stop after `TIME`, for example 10s or 5m")
	output := flagvalue.OneOf(&w.output, formatText, formatJSON)
	g.flags.VarP(output, "output", "o", "text; json: one object, with all endings and their evidence")
	languageFlag(g, &w.language, "")
	attachFlag(g, &w.attach)
	verboseFlag(g, &w.verbose)
	helpFlag(g)
	codes := hint.ExitCodes("tracing failed, a recording cannot be read, or the output not written",
		hint.Usage, hint.Privilege, hint.Unsupported, hint.Incomplete, hint.NoMatch)
	help := manual{about: whyAbout, groups: []flagGroup{g}, tail: codes + "\n" + whyExamples}
	help.attach(cmd)
	complete(cmd, "attach", attachChoice(&w.attach).Words())
	completeLanguage(cmd)
	complete(cmd, "output", output.Words())
	return cmd
}

// query returns what the user asks about.
func (w *whyFlags) query(cmd *cobra.Command, args []string) (why.Query, error) {
	q := why.Query{Line: logline.Parse(strings.Join(args, " "))}
	switch {
	case len(w.pids) > 1:
		return q, hint.New(hint.Usage, "--pid takes one process", "ask about one after the other")
	case len(w.pids) == 1:
		q.PID = w.pids[0]
	}
	switch {
	case q.Empty() && len(args) > 0:
		return q, hint.New(hint.Usage, "no address and no port in the text",
			"name the ends: closetrace why 10.0.0.5:33042 10.0.0.9:443")
	case q.Empty():
		return q, hint.New(hint.Usage, "no connection named", seeHelp(cmd))
	case w.wait && len(w.from) > 0:
		return q, hint.New(hint.Usage, "--wait and --from exclude each other", "choose a trace or recordings")
	case !w.wait && len(w.from) == 0:
		return q, hint.New(hint.Usage, "the past is known from recordings only",
			"use --from FILE, a recording of closetrace -w, or --wait for the next time")
	case len(w.from) > 1 && slices.Contains(w.from, "-"):
		return q, hint.New(hint.Usage, "standard input is one file", "name all files, or leave out -")
	case !w.wait && w.duration > 0:
		return q, hint.New(hint.Usage, "--duration is for --wait", seeHelp(cmd))
	}
	return q, nil
}

func (w *whyFlags) run(cmd *cobra.Command, m whySystem, args []string) error {
	q, err := w.query(cmd, args)
	if err != nil {
		return err
	}
	found := why.New(q)
	if w.wait {
		err = w.trace(cmd.Context(), m, found)
	} else {
		err = w.read(cmd.Context(), m, found)
	}
	if err != nil && !hint.Is(err, hint.Incomplete) {
		return err
	}
	out := m.tracer.console.stdout
	text, failed := w.answer(m, found)
	switch {
	case failed != nil:
		return failed
	case text == "" && err != nil:
		return err
	case text == "" && cmd.Context().Err() != nil:
		fmt.Fprintln(m.tracer.console.stderr, "closetrace: interrupted before an ending of this connection was seen")
		return nil
	case text == "":
		return hint.New(hint.NoMatch, "no ending of this connection", w.elsewhere())
	}
	if writeErr := write(out, text); writeErr != nil {
		return writeErr
	}
	return err
}

// answer returns the text that is printed, "" if no connection matches.
func (w *whyFlags) answer(m whySystem, found *why.Collector) (string, error) {
	if w.output == formatJSON {
		return found.JSON()
	}
	library, err := explain.Open()
	if err != nil {
		return "", err
	}
	return found.Print(library, why.Layout{
		Width: m.tracer.console.stdout.width, ASCII: m.ascii && w.language != explain.Chinese, Language: w.language,
	}), nil
}

// elsewhere returns where else the ending may be.
func (w *whyFlags) elsewhere() string {
	if w.wait {
		return "it may be open still: ss -tn lists it; without --duration, --wait has no limit"
	}
	return "a recording has what happened while it was made; closetrace replay FILE prints all of it"
}

// read reads the recordings.
func (w *whyFlags) read(ctx context.Context, m whySystem, to *why.Collector) error {
	opened, err := pipeline.Open(ctx, m.tracer.console.stdin, w.from)
	if err != nil {
		return err
	}
	defer pipeline.CloseAll(opened)
	if err := m.dropAll(); err != nil { // before the text of another machine is read
		return err
	}
	times := 1
	if len(w.pids) > 0 || len(opened) > 1 {
		times = 2 // that an ending is of the other end of a connection that matches is known only after the first time
	}
	return pipeline.ReplayAll(ctx, opened, times, to, m.tracer.console.streamOptions(0))
}

// settle is how long a trace goes on after the first ending of the connection, for those of its other end.
const settle = time.Second

// trace traces until the connection ends.
func (w *whyFlags) trace(ctx context.Context, m whySystem, to *why.Collector) error {
	flags := newTraceFlags(m.tracer.console)
	flags.attach, flags.verbose, flags.duration, flags.tier = w.attach, w.verbose, w.duration, plan.Full
	flags.shown.PIDs = w.pids // must exist
	if err := flags.check(&m.tracer); err != nil {
		return err
	}
	flags.shown.PIDs = nil // the other end's too
	o := flags.options(&m.tracer)
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
