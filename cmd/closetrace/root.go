package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/message"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/rights"
	"github.com/closetrace/closetrace/internal/version"
)

// run executes a command line and returns the exit code.
//
// The first signal of [endSignals] makes tracing end with a summary; a second one ends the process at once. run catches
// SIGPIPE, because the Go runtime would exit on it before the programs are detached.
func run(ctx context.Context, s *system) int {
	if err := checkRuntime(); err != nil {
		return finish(s.console.stderr, err)
	}
	out := &pipeline.CheckedWriter{Writer: s.console.stdout} // help ignores errors
	root := newRoot(s, out)
	cmd, args, err := root.Find(s.args)
	ctx, stop := signal.NotifyContext(ctx, endSignals(cmd)...)
	defer stop()
	context.AfterFunc(ctx, func() {
		time.Sleep(sameSignal)
		stop()
	})
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	c := s.console
	c.interrupted = ctx.Done()
	c.stderr.Writer = pipeline.NewDeadlineWriter(c.stderr.Writer, c.interrupted)

	root.SetArgs(s.args)
	root.SetErr(c.stderr)
	if err != nil || !needsPrivileges(cmd, args) {
		if err := s.dropForUser(); err != nil {
			return finish(c.stderr, err)
		}
	}
	_ = rights.AsUser(func() error {
		_ = time.Now().Format(time.RFC3339) // TZ may name a file, which is read once
		return nil
	})
	return finish(c.stderr, out.Outcome(root.ExecuteContext(ctx)))
}

// endSignals returns the signals that end a run in good order. SIGHUP stays ignored if it was (nohup), and makes serve
// reload. GOTRACEBACK, if it is set, keeps what SIGQUIT does in a Go program: print the stacks of all goroutines.
// SIGINT stays ignored for the command of run, which inherits that: see package command.
func endSignals(cmd *cobra.Command) []os.Signal {
	all := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) && cmd.Name() != serveName {
		all = append(all, syscall.SIGHUP)
	}
	if os.Getenv("GOTRACEBACK") == "" {
		all = append(all, syscall.SIGQUIT)
	}
	if cmd.Name() == runName {
		all = slices.DeleteFunc(all, signal.Ignored)
	}
	return all
}

// sameSignal is the time within which a second signal counts as the first one:
// timeout(1) signals the process and then its process group.
const sameSignal = 100 * time.Millisecond

func newRoot(s *system, out io.Writer) *cobra.Command {
	root := newRootCommand(s)
	root.SetOut(out)
	root.Use = "closetrace [flags]"
	root.Short = "Show how and why TCP connections end"
	root.Args = noSuchCommand
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SuggestionsMinimumDistance = 2
	root.Version = version.Build().Line()
	root.SetVersionTemplate("closetrace {{.Version}}\n")

	root.AddCommand(s.liveCommands()...)
	root.AddCommand(newReplay(s.console, s.dropAll), newWhy(s), newReport(s.console, s.dropAll),
		newAnnotate(s.console, s.dropAll), newExplain(s.console), newMan(), newSchema(s.console), newVersion(s.console))
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Args = noSuchTopic
	}
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.Args = noSuchShell
		completion.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	return root
}

// noSuchTopic returns an error for help about an unknown command.
func noSuchTopic(help *cobra.Command, args []string) error {
	cmd, rest, err := help.Root().Find(args)
	switch {
	case err != nil:
		return noSuchCommand(help.Root(), args)
	case cmd.HasSubCommands():
		return noSuchCommand(cmd, rest)
	}
	return nil
}

// noSuchShell returns an error for a shell without completion.
func noSuchShell(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var known []string
	for _, shell := range cmd.Commands() {
		known = append(known, shell.Name())
	}
	return hint.New(hint.Usage, fmt.Sprintf("no completion for %q", args[0]), "use one of "+strings.Join(known, ", "))
}

// noSuchCommand returns an error for an argument of a command that only has subcommands.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if err := intervalApart(cmd, args); err != nil {
		return err
	}
	next := "closetrace -h lists the commands"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		next = flagvalue.DidYouMean(near)
	}
	return hint.New(hint.Usage, fmt.Sprintf("unknown command %q", args[0]), next)
}

// finish prints err, if there is one, and returns the exit code.
func finish(stderr io.Writer, err error) int {
	if err == nil || errors.As(err, new(*pipeline.OutputError)) && errors.Is(err, syscall.EPIPE) {
		return 0 // the reader closed the pipe
	}
	if !errors.Is(err, hint.ErrReported) {
		message.Report(stderr, err)
	}
	return hint.ExitCode(err)
}
