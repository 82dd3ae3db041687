package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// run executes a command line and returns the exit code.
//
// The first SIGINT or SIGTERM ends tracing in good order; a second one, by somebody
// who does not want to wait, ends the process at once. SIGPIPE is caught, because by default the Go runtime dies of
// it before anything could be detached.
func run(ctx context.Context, e *env) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() {
		time.Sleep(sameSignal)
		stop()
	})
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	e.ended = ctx.Done()
	e.stderr = e.patient(e.stderr)

	root := newRoot(e)
	root.SetArgs(e.args)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	return finish(e.stderr, root.ExecuteContext(ctx))
}

// sameSignal is how soon a second signal is the first one again: timeout(1) sends
// its own to the process and to the process group.
const sameSignal = 100 * time.Millisecond

const about = `closetrace tells how every TCP connection on this machine ends, and why: which path
its ending took in the kernel, by what evidence, and whose call it was.

It prints one line per ending to standard output until it is interrupted: PATH is
what happened, as "close → RST", "RST received" or "RST in reply", WHY the reason.
PID and COMM are the process whose call it was or, where a segment or a timer did it,
the one that holds the socket, if that can be found.

A summary goes to standard error at the end. Its audit compares the RSTs and resets
that the kernel counted with those that were explained.
`

const examples = `Examples:
  sudo closetrace                          everything, as it happens
  sudo closetrace -p 4211                  one process
  sudo closetrace -L 443 -4                connections to port 443 here, IPv4 only
  sudo closetrace -D 5432,6379             connections to a database or a cache
  sudo closetrace --netns web --duration 1m -o wide
  sudo closetrace --container 0f4b1c2d3e   what belongs to a container
  sudo closetrace --errors -c 'nginx*'     what loses data or surprises somebody, of nginx
  sudo closetrace -o json | jq 'select(.rst)'
  sudo closetrace -w today.rec.zst         record it, too; closetrace replay tells it again
  sudo closetrace run --fail-on rst -- make check    a guard for CI
  sudo closetrace top                      how many, per second and in all, on the whole screen
  sudo closetrace lab                      provoke every path here and watch
  sudo closetrace stuck                    sockets that have not ended, and why
  sudo closetrace check                    what can be traced on this machine
  closetrace explain close.rst.unread      what that means and how to avoid it
`

func newRoot(e *env) *cobra.Command {
	root := newTrace(e)
	root.Use = "closetrace [flags]"
	root.Short = "Tell how every TCP connection ends, and why"
	root.Args = noSuchCommand
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SuggestionsMinimumDistance = 2
	root.Version = version()
	root.SetVersionTemplate("closetrace {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)

	trace := newTrace(e)
	trace.Use = "trace [flags]"
	trace.Short = "The same as closetrace without a command"
	root.AddCommand(trace, newTop(e), newRun(e), newReplay(e), newStuck(e), newExplain(e), newLab(e), newCheck(e), newMan())
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

// noSuchTopic refuses to help with a command that there is not.
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

// noSuchShell refuses shells for which there is no completion.
func noSuchShell(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var known []string
	for _, shell := range cmd.Commands() {
		known = append(known, shell.Name())
	}
	return &usageError{fmt.Sprintf("no completion for %q", args[0]), "one of " + strings.Join(known, ", ")}
}

// version is what the build knows of itself.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && v == "(devel)" {
			v += " " + s.Value
		}
	}
	return v + " " + info.GoVersion
}

// noSuchCommand refuses arguments of the root command, which has none.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "closetrace -h lists the commands"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return &usageError{fmt.Sprintf("unknown command %q", args[0]), hint}
}

// noArguments refuses arguments of a command that has none.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &usageError{fmt.Sprintf("unexpected argument %q", args[0]), seeHelp(cmd)}
}

// flagError turns what pflag says about a flag into our words.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "" {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
		return &usageError{err.Error(), nearest("--"+unknown.GetSpecifiedName(), known, seeHelp(cmd))}
	}
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return &usageError{err.Error(), seeHelp(cmd)}
	}
	flag := invalid.GetFlag()
	var usage *usageError
	if errors.As(err, &usage) {
		return &usageError{fmt.Sprintf("--%s: %s", flag.Name, usage.what), usage.hint}
	}
	value, what := pflag.UnquoteUsage(flag)
	return &usageError{
		fmt.Sprintf("--%s: %q is not possible", flag.Name, invalid.GetValue()),
		fmt.Sprintf("--%s %s: %s", flag.Name, value, what),
	}
}

func seeHelp(cmd *cobra.Command) string { return "see " + cmd.CommandPath() + " -h" }
