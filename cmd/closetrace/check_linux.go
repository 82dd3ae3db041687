package main

import (
	"cmp"
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/check"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/pipeline"
)

const checkAbout = `closetrace check shows what can be traced on this machine, in which attach mode, and
what cannot. It loads, attaches and detaches every hook of every mode to find out.

The exit code is 0 only if tracing works here.
`

const checkExamples = `Examples:
  sudo closetrace check
  closetrace check                  as another user: missing privileges
  sudo closetrace check -o json | jq -r '.modes[] | select(.works) | .mode'
`

// examiner finds out what can be traced: check.Examine, or a test's.
type examiner func(ctx context.Context, btf string) (*check.Machine, error)

func newCheck(c *console, examine examiner) *cobra.Command {
	output, btf := formatTable, ""
	choices := flagvalue.OneOf(&output, formatTable, formatJSON)
	cmd := &cobra.Command{
		Use:                   "check [flags]",
		Short:                 "Show what can be traced on this machine, and what cannot",
		Args:                  noArguments,
		RunE:                  func(cmd *cobra.Command, _ []string) error { return runCheck(cmd.Context(), c, examine, btf, output) },
		DisableFlagsInUseLine: true,
	}
	g := newGroup("Flags")
	g.flags.VarP(choices, "output", "o", "table, or json: one object")
	g.flags.Var(flagvalue.File{Path: &btf}, "btf", btfUsage)
	helpFlag(g)
	m := manual{checkAbout, []flagGroup{g}, hint.LiveExitCodes("tracing fails for another reason") + "\n" + checkExamples}
	m.attach(cmd)
	complete(cmd, "output", choices.Words())
	return cmd
}

func runCheck(ctx context.Context, c *console, examine examiner, btf string, output format) error {
	m, err := examine(ctx, btf)
	if err != nil {
		return cmp.Or(interrupted(ctx, err), error(&hint.Error{What: "interrupted"})) // code 0: tracing works
	}
	if output == formatJSON {
		enc := json.NewEncoder(c.stdout)
		enc.SetEscapeHTML(false)
		err = enc.Encode(m)
	} else {
		err = m.Print(c.stdout, c.stdout.width)
	}
	return cmp.Or(m.Err, pipeline.OutputFailure(err)) // a closed pipe must not hide that tracing does not work
}
