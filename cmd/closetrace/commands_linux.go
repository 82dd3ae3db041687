package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/symbols"
)

// runHelper reports whether this process is one that the lab or --stack started. It returns when that has ended.
func runHelper() bool { return lab.RunHelper() || symbols.RunHelper() }

// checkRuntime returns an error if Go's runtime cannot work here.
func checkRuntime() error { return kernel.CheckRuntime() }

// newRootCommand returns closetrace without a command, which traces.
func newRootCommand(s *system) *cobra.Command {
	root := newTrace(s.tracer)
	root.SetFlagErrorFunc(flagError) // also of its commands
	return root
}

// liveCommands returns the commands that need a Linux kernel.
func (s *system) liveCommands() []*cobra.Command {
	trace := newTrace(s.tracer)
	trace.Use = "trace [flags]"
	trace.Short = "Same as closetrace without a command"
	return []*cobra.Command{
		trace, newServe(s.tracer, s.stuck), newTop(s.tracer, s.term), newRun(s.runner()), newRecord(s.tracer),
		newStuck(s.stuck, s.tracer), newLab(s.lab()), newCheck(s.console, s.examine),
	}
}

// needsPrivileges reports whether a command traces, or looks at all sockets. Any other runs with the rights of the
// user, so that it opens no file that the user may not open.
func needsPrivileges(cmd *cobra.Command, args []string) bool {
	if cmd.HasParent() {
		return slices.Contains([]string{"trace", "record", "top", "run", "stuck", "lab", "check"}, cmd.Name()) ||
			cmd.Name() == whyName && whyNeedsPrivileges(args) || cmd.Name() == serveName && serveNeedsPrivileges(args)
	}
	// closetrace itself traces, and has a command for shells that is not there yet.
	return !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, cobra.ShellCompRequestCmd) })
}
