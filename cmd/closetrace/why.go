package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/ladder"
	"github.com/closetrace/closetrace/internal/logline"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/why"
)

const whyName = "why"

const whyAbout = `closetrace why prints how one connection ended: what both ends did, in time order, what
each application gets, the cause, and how to avoid it.

The connection is named by the addresses of its ends, or by a line of a log that has
them, as Go, nginx, HAProxy, Python, Java, Node, curl, databases, ss or tcpdump print
them. A port or an address alone also works. --from reads recordings, of both hosts if
they are given` + whyWaits + `. If several connections match,
the newest is printed, first those with the error of the line, and the others are listed.
`

const whyExamples = `Examples:
  closetrace why 10.0.0.5:33042 10.0.0.9:443 --from night.rec.zst
  closetrace why --from night.rec.zst 'read tcp 10.0.0.5:33042->10.0.0.9:443: read: connection reset by peer'
  closetrace why :33042 --from web1.rec.zst --from db1.rec.zst
  closetrace why --pid 977 --from monday.rec.zst --from tuesday.rec.zst
` + whyWaitExample

// whyFlags are the flags of closetrace why.
type whyFlags struct {
	pids     []uint32
	from     []string
	waiting  waitFlags
	language explain.Language
	output   format
}

func newWhy(s *system) *cobra.Command {
	w := &whyFlags{output: formatText, waiting: newWaitFlags(), language: s.console.language}
	cmd := &cobra.Command{
		Use:   whyName + " [ADDRESS:PORT ADDRESS:PORT | 'LOG LINE'] [flags]",
		Short: "Print how one connection ended, and why",
		RunE:  func(cmd *cobra.Command, args []string) error { return w.run(cmd, s, args) },

		DisableFlagsInUseLine: true,
	}
	g := newGroup("Flags")
	g.flags.VarP(flagvalue.PIDs(&w.pids), "pid", "p",
		"connections of this process")
	g.flags.Var(flagvalue.Files{List: &w.from}, "from",
		"a recording of closetrace -w, or - for standard input; repeat it for several, also of several hosts")
	w.waiting.flags(g)
	output := flagvalue.OneOf(&w.output, formatText, formatJSON)
	g.flags.VarP(output, "output", "o", "text; json: one object, with all endings and their evidence")
	languageFlag(g, &w.language, "")
	w.waiting.kernelFlags(g)
	helpFlag(g)
	codes := hint.ExitCodes("tracing or output failed, or a file is no recording (2: cannot be opened)",
		hint.Usage, hint.Privilege, hint.Unsupported, hint.Incomplete, hint.NoMatch)
	help := manual{about: whyAbout, groups: []flagGroup{g}, tail: codes + "\n" + whyExamples}
	help.attach(cmd)
	w.waiting.complete(cmd)
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
	case w.waiting.active && len(w.from) > 0:
		return q, hint.New(hint.Usage, "--wait and --from exclude each other", "choose a trace or recordings")
	case !w.waiting.active && len(w.from) == 0:
		return q, hint.New(hint.Usage, "the past is known from recordings only",
			"use --from FILE, a recording of closetrace -w"+orWait)
	case len(w.from) > 1 && slices.Contains(w.from, "-"):
		return q, hint.New(hint.Usage, "standard input is one file", "name all files, or leave out -")
	case !w.waiting.active && w.waiting.duration > 0:
		return q, hint.New(hint.Usage, "--duration is for --wait", seeHelp(cmd))
	}
	return q, nil
}

func (w *whyFlags) run(command *cobra.Command, s *system, args []string) error {
	q, err := w.query(command, args)
	if err != nil {
		return err
	}
	found := why.New(q)
	if w.waiting.active {
		err = w.waiting.trace(command.Context(), s, w.pids, found)
	} else {
		err = w.read(command.Context(), s, found)
	}
	if err != nil && !hint.Is(err, hint.Incomplete) {
		return err
	}
	text, failed := w.answer(s, found)
	switch {
	case failed != nil:
		return failed
	case text == "" && err != nil:
		return err
	case text == "" && command.Context().Err() != nil:
		const interrupted = "interrupted before an ending of this connection was seen"
		if !w.waiting.active {
			return errors.New(interrupted)
		}
		fmt.Fprintln(s.console.stderr, "closetrace: "+interrupted) // which is how a wait ends
		return nil
	case text == "":
		return hint.New(hint.NoMatch, "no ending of this connection", w.elsewhere())
	}
	return cmp.Or(write(s.console.stdout, text), err)
}

// answer returns the text that is printed, "" if no connection matches.
func (w *whyFlags) answer(s *system, found *why.Collector) (string, error) {
	if w.output == formatJSON {
		return found.JSON()
	}
	library, err := explain.Open()
	if err != nil {
		return "", err
	}
	return found.Print(library, why.Layout{
		Width: s.console.stdout.width, ASCII: ladder.OnlyASCII(os.Getenv) && w.language != explain.Chinese, Language: w.language,
	}), nil
}

// elsewhere returns where else the ending may be.
func (w *whyFlags) elsewhere() string {
	if w.waiting.active {
		return "it may be open still: ss -tn lists it; without --duration, --wait has no limit"
	}
	return "a recording has what happened while it was made; closetrace replay FILE prints all of it"
}

// read reads the recordings.
func (w *whyFlags) read(ctx context.Context, s *system, to *why.Collector) error {
	opened, err := pipeline.Open(ctx, s.console.stdin, w.from)
	if err != nil {
		return err
	}
	defer pipeline.CloseAll(opened)
	if err := s.dropAll(); err != nil { // before the text of another machine is read
		return err
	}
	times := 1
	if len(w.pids) > 0 || len(opened) > 1 {
		times = 2 // that an ending is of the other end of a connection that matches is known only after the first time
	}
	return pipeline.ReplayWhole(ctx, opened, times, to, s.console.streamOptions(0))
}
