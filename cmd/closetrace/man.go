package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

const manAbout = `closetrace man writes its manual pages, one per command, into a folder that exists.
They say what -h does.
`

const manExamples = `Examples:
  closetrace man /usr/local/share/man/man8
`

func newMan() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a folder",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{fmt.Sprintf("man takes one folder, not %d", len(args)), seeHelp(cmd)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return writeManual(cmd.Root(), args[0]) },
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	other := newGroup("Flags")
	other.flags.BoolP("help", "h", false, "print this")
	m := manual{about: manAbout, groups: []flagGroup{other}, tail: manExamples}
	m.attach(cmd)
	return cmd
}

// writeManual makes the pages of section 8, for commands of the superuser.
func writeManual(root *cobra.Command, dir string) error {
	if at, err := os.Stat(dir); err != nil || !at.IsDir() {
		return &usageError{fmt.Sprintf("%q is not a folder", dir), "man takes a folder that exists"}
	}
	root.DisableAutoGenTag = true // else each page ends in the day of its making
	err := doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "closetrace " + version(), Manual: "closetrace"}, dir)
	if err != nil {
		return fmt.Errorf("writing the manual: %w", err)
	}
	return nil
}

// forManual gives cmd the words of its help in the form that the pages are made
// from: prose, and indented what has to keep its lines.
func (m *manual) forManual(cmd *cobra.Command) {
	codes, examples, _ := strings.Cut(m.tail, "Examples:\n")
	if examples == "" {
		codes, examples = "", m.tail
	}
	cmd.Long, cmd.Example = m.about, examples
	if codes = strings.TrimSpace(codes); codes != "" {
		cmd.Long += "\n    " + strings.ReplaceAll(codes, "\n", "\n    ") + "\n"
	}
}
