package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/explain"
)

const explainAbout = `closetrace explain tells in plain words what a path means: what happens, where the
kernel decides it, what goes over the wire, what both applications see, whether it
is harmless, how to avoid it and how to provoke it. NAME is a path as in the JSON
output and the summary, or a topic. Without a NAME it lists them all.
`

const explainExamples = `Examples:
  closetrace explain
  closetrace explain close.rst.unread
  closetrace explain time-wait
  closetrace explain recv.rst --lang zh
`

// explainFlags are what the command line says about an explanation.
type explainFlags struct{ language explain.Language }

func newExplain(e *env) *cobra.Command {
	f := &explainFlags{explain.FromLocale(e.locale)}
	cmd := &cobra.Command{
		Use:   "explain [NAME] [flags]",
		Short: "Tell in plain words what a path means, why it happens and how to avoid it",
		Args:  noSecondArgument,
		RunE:  func(_ *cobra.Command, names []string) error { return f.run(e, names) },
		ValidArgsFunction: func(_ *cobra.Command, names []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(names) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return explainable(f.language), cobra.ShellCompDirectiveNoFileComp
		},
		DisableFlagsInUseLine: true,
	}
	g := newGroup("Flags")
	language := choice[explain.Language]{&f.language, explain.Languages}
	g.flags.Var(language, "lang", "en or zh, which is Simplified Chinese; without it by LC_ALL, LC_MESSAGES or LANG")
	g.flags.Lookup("lang").DefValue = "" // the help is the same in every locale
	g.flags.BoolP("help", "h", false, "print this")
	m := manual{about: explainAbout, groups: []flagGroup{g}, tail: exitCodes + "\n" + explainExamples}
	m.attach(cmd)
	complete(cmd, "lang", language.words())
	return cmd
}

func noSecondArgument(cmd *cobra.Command, args []string) error {
	if len(args) < 2 {
		return nil
	}
	return noArguments(cmd, args[1:])
}

// explainable are the names of all paths and topics, each with its title for
// the shell.
func explainable(l explain.Language) []string {
	paths, topics, err := explain.All()
	if err != nil {
		return nil
	}
	var names []string
	for _, p := range append(paths, topics...) {
		names = append(names, cobra.CompletionWithDesc(p.Name, p.Title(l)))
	}
	return names
}

func (f *explainFlags) run(e *env, names []string) error {
	layout := explain.Layout{Language: f.language, Width: e.width}
	paths, topics, err := explain.All()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return say(e, explain.Index(paths, topics, layout))
	}
	for _, p := range append(paths, topics...) {
		if p.Name == names[0] {
			layout.Variants = variants(p.Name)
			return say(e, p.Text(layout))
		}
	}
	return notExplained(names[0], append(paths, topics...))
}

// say writes a text. Who reads it through head(1) or a pager may stop early.
func say(e *env, text string) error {
	if _, err := io.WriteString(e.stdout, text); !errors.Is(err, syscall.EPIPE) {
		return outputError(err)
	}
	return nil
}

// variants are the scenarios that provoke a path in other ways: "_" stands
// between its name and theirs.
func variants(path string) []string {
	var names []string
	for _, name := range scenarioNames() {
		if strings.HasPrefix(name, path+"_") {
			names = append(names, name)
		}
	}
	return names
}

func notExplained(name string, pages []*explain.Page) error {
	var names []string
	for _, p := range pages {
		names = append(names, p.Name)
	}
	return &usageError{fmt.Sprintf("no path or topic %q", name), nearest(name, names, "closetrace explain lists them")}
}
