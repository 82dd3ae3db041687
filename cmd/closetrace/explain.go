package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/sink"
)

const explainAbout = `closetrace explain describes a path: what happens, where the kernel decides it,
what is sent, what both applications see, whether it is harmless, how to avoid it
and how to provoke it. WORD is a path as in the JSON output and the summary, the
beginning of some paths (close.rst), or a topic.

It also answers with the paths concerned, if WORD is an error (ECONNRESET), a TCP
state, a socket option or sysctl, a kernel counter (TCPAbortOnClose), the kernel's
reason for a RST (TCP_ABORT_ON_CLOSE), a kernel function, or the message of a
program. Without WORD it lists all paths and topics.
`

const explainExamples = `Examples:
  closetrace explain
  closetrace explain close.rst.unread
  closetrace explain close.rst
  closetrace explain ECONNRESET
  closetrace explain upstream prematurely closed connection
  closetrace explain recv.rst --lang zh
`

// explainFlags are the flags of explain.
type explainFlags struct {
	language explain.Language
	color    colorWhen
}

func newExplain(c *console) *cobra.Command {
	f := &explainFlags{c.language, colorAuto}
	cmd := &cobra.Command{
		Use:   "explain [WORD...] [flags]",
		Short: "Explain a path, an error or a message: what it means, how to avoid it",
		RunE:  func(_ *cobra.Command, words []string) error { return f.run(c.stdout, words) },
		ValidArgsFunction: func(_ *cobra.Command, words []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(words) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return explainable(f.language), cobra.ShellCompDirectiveNoFileComp
		},
		DisableFlagsInUseLine: true,
	}
	g := newGroup("Flags")
	languageFlag(g, &f.language, "")
	g.flags.Var(colorChoice(&f.color), "color", "headings in bold: always, never, or auto (on a terminal, "+
		"unless NO_COLOR is set or TERM is dumb)")
	helpFlag(g)
	m := manual{about: explainAbout, groups: []flagGroup{g}, tail: codesOfOutput + "\n" + explainExamples}
	m.attach(cmd)
	completeLanguage(cmd)
	complete(cmd, "color", colorChoice(&f.color).Words())
	return cmd
}

// explainable returns the names of all paths and topics, with their titles for
// shell completion.
func explainable(l explain.Language) []string {
	library, err := explain.Open()
	if err != nil {
		return nil
	}
	return library.Completions(l)
}

// scenarioNames returns the names of the scenarios of closetrace lab.
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

func (f *explainFlags) run(to output, words []string) error {
	library, err := explain.Open()
	if err != nil {
		return err
	}
	layout := explain.Layout{
		Language: f.language, Width: to.width, Bold: f.color.enabled(to.color), Scenarios: scenarioNames(),
	}
	shown := func(text string) string { return text }
	if to.isASCII && f.language != explain.Chinese {
		shown = sink.ASCII
	}
	if len(words) == 0 {
		return write(to, shown(library.Index(layout)))
	}
	typed := strings.Join(words, " ")
	if text := library.Explain(typed, layout); text != "" {
		return write(to, shown(text))
	}
	next := flagvalue.Suggest(typed, library.Names(), "closetrace explain lists the paths and topics")
	if len(words) > 1 && library.Explain(words[0], layout) != "" {
		next = "explain one at a time: closetrace explain " + words[0]
	}
	return hint.New(hint.Usage, fmt.Sprintf("no path, topic, error or message %q", typed), next)
}

// codesOfOutput are the exit codes of a command that only prints.
var codesOfOutput = hint.ExitCodes("the output cannot be written", hint.Usage)

// write prints a text. A reader such as head(1) may close the pipe early.
func write(to io.Writer, text string) error {
	if _, err := io.WriteString(to, text); !errors.Is(err, syscall.EPIPE) {
		return pipeline.OutputFailure(err)
	}
	return nil
}
