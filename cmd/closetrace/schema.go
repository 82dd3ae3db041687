package main

import (
	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/schema"
)

const schemaAbout = `closetrace schema prints the JSON Schema (2020-12) of what -o json prints: one object per
ending. Its $defs have the schema of the summary, and of the answer of closetrace why.
docs/json.md says what each field means.
`

const schemaExamples = `Examples:
  closetrace schema > ending.schema.json
  closetrace schema | jq .properties.path
`

func newSchema(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema [flags]",
		Short: "Print the JSON Schema of -o json",
		Args:  noArguments,
		RunE:  func(*cobra.Command, []string) error { return write(c.stdout, string(schema.Ending())) },

		DisableFlagsInUseLine: true,
	}
	g := newGroup("Flags")
	helpFlag(g)
	m := manual{about: schemaAbout, groups: []flagGroup{g}, tail: codesOfOutput + "\n" + schemaExamples}
	m.attach(cmd)
	return cmd
}
