package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/version"
)

const manAbout = `closetrace man writes the manual pages, one per command, to an existing directory.
They have the same text as -h.
`

const manExamples = `Examples:
  closetrace man /usr/local/share/man/man8
`

func newMan() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages to a directory",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return hint.New(hint.Usage, fmt.Sprintf("man takes one directory, not %d", len(args)), seeHelp(cmd))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return writeManual(cmd.Root(), args[0]) },
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	other := newGroup("Flags")
	helpFlag(other)
	m := manual{about: manAbout, groups: []flagGroup{other}, tail: manExamples}
	m.attach(cmd)
	return cmd
}

// writeManual writes the pages of section 8, system administration commands.
func writeManual(root *cobra.Command, dir string) error {
	if at, err := os.Stat(dir); err != nil || !at.IsDir() {
		return hint.New(hint.Usage, fmt.Sprintf("%q is not a directory", dir), "use an existing directory")
	}
	root.DisableAutoGenTag = true // or each page ends with its date
	inManual(root)
	header := &doc.GenManHeader{Section: "8", Source: "closetrace " + version.Build().Line(), Manual: "closetrace"}
	err := doc.GenManTree(root, header, dir)
	if err != nil {
		return fmt.Errorf("writing the manual: %w", err)
	}
	return nil
}

// inManual hides flags that are in Long, so that the library does not list them again.
func inManual(cmd *cobra.Command) {
	if _, ok := cmd.Annotations[hasOptions]; ok {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = true })
	}
	for _, below := range cmd.Commands() {
		inManual(below)
	}
}
