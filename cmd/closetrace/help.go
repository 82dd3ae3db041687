package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagGroup is flags that belong together in the help.
type flagGroup struct {
	title string
	flags *pflag.FlagSet
}

func newGroup(title string) flagGroup {
	flags := pflag.NewFlagSet(title, pflag.ContinueOnError)
	flags.SortFlags = false
	return flagGroup{title, flags}
}

// manual is the text of a command's help.
type manual struct {
	about  string
	groups []flagGroup
	tail   string // exit codes, examples
}

// attach gives cmd the flags of the groups, and the manual as its help.
func (m *manual) attach(cmd *cobra.Command) {
	for _, g := range m.groups {
		cmd.Flags().AddFlagSet(g.flags)
	}
	m.forManual(cmd)
	ordinary := (&cobra.Command{}).HelpFunc()
	cmd.SetHelpFunc(func(asked *cobra.Command, args []string) {
		if asked != cmd {
			ordinary(asked, args) // a command below without a manual of its own
			return
		}
		m.print(cmd.OutOrStdout(), cmd)
	})
}

// helpWidth is what a line of flags may take, in cells.
const helpWidth = 88

func (m *manual) print(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintf(w, "%s\nUsage:\n  %s\n", m.about, cmd.UseLine())
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s COMMAND\n\nCommands:\n", cmd.CommandPath())
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(w, "  %-12s%s\n", sub.Name(), sub.Short)
			}
		}
	}
	for _, g := range m.groups {
		fmt.Fprintf(w, "\n%s:\n%s", g.title, g.flags.FlagUsagesWrapped(helpWidth))
	}
	fmt.Fprintf(w, "\n%s", m.tail)
}
