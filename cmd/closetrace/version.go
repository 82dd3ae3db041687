package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/version"
)

const versionAbout = `closetrace version prints the version, the commit, and the version of Go. closetrace
check prints what the kernel supports.
`

const versionExamples = `Examples:
  closetrace version
  closetrace version -o json | jq -r .commit
`

func newVersion(c *console) *cobra.Command {
	output := formatTable
	choices := flagvalue.OneOf(&output, formatTable, formatJSON)
	cmd := &cobra.Command{
		Use:   "version [flags]",
		Short: "Print the version, the commit, and the version of Go",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			if output == formatJSON {
				return pipeline.OutputFailure(json.NewEncoder(c.stdout).Encode(version.Build()))
			}
			return write(c.stdout, version.Build().String())
		},
		DisableFlagsInUseLine: true,
	}
	g := newGroup("Flags")
	g.flags.VarP(choices, "output", "o", "table, or json: one object")
	helpFlag(g)
	m := manual{about: versionAbout, groups: []flagGroup{g}, tail: codesOfOutput + "\n" + versionExamples}
	m.attach(cmd)
	complete(cmd, "output", choices.Words())
	return cmd
}
