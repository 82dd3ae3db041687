package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/closetrace/closetrace/internal/sink/table"
	"github.com/closetrace/closetrace/internal/stdio"
)

// flagGroup is a section of flags in the help.
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
			ordinary(asked, args) // a subcommand without a manual
			return
		}
		m.print(cmd.OutOrStdout(), cmd)
	})
}

// helpWidth is the greatest width of the help, in cells.
const helpWidth = 88

func (m *manual) print(w io.Writer, cmd *cobra.Command) {
	width := helpWidth
	if n := stdio.Width(os.Stdout, ""); n > 0 {
		width = min(n, helpWidth)
	}
	fmt.Fprintf(w, "%s\nUsage:\n  %s\n", table.Refill(m.about, width), cmd.UseLine())
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s COMMAND\n\nCommands:\n", cmd.CommandPath())
		commands := table.Table{Columns: []table.Column{{}, {Wrap: true}}, Indent: true, Width: width}
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				commands.Rows = append(commands.Rows, []string{sub.Name(), sub.Short})
			}
		}
		_ = commands.Print(w)
	}
	for _, g := range m.groups {
		fmt.Fprintf(w, "\n%s:\n%s", g.title, g.flags.FlagUsagesWrapped(width))
	}
	fmt.Fprintf(w, "\n%s", m.tail)
}

// forManual sets the texts of cmd that manual pages are generated from: Markdown,
// in which indented lines keep their line breaks.
func (m *manual) forManual(cmd *cobra.Command) {
	codes, examples, _ := strings.Cut(m.tail, "Examples:\n")
	if examples == "" {
		codes, examples = "", m.tail
	}
	var flags strings.Builder
	for _, g := range m.groups {
		fmt.Fprintf(&flags, "### %s\n\n", g.title)
		g.flags.VisitAll(func(f *pflag.Flag) { flags.WriteString(flagEntry(f)) })
	}
	cmd.Long, cmd.Example = m.about+"\n# OPTIONS\n\n"+flags.String(), examples
	// closetrace and closetrace run have different exit codes and titles.
	if title, list, ok := strings.Cut(strings.TrimSpace(codes), "\n"); ok {
		cmd.Long += "# EXIT STATUS\n\n" + title + "\n\n    " + strings.ReplaceAll(list, "\n", "\n    ") + "\n"
	}
	cmd.Annotations = map[string]string{hasOptions: ""}
}

// hasOptions marks a command whose Long lists its flags.
const hasOptions = "closetrace: options"

// flagEntry returns the text of the help on a flag in Markdown.
func flagEntry(f *pflag.Flag) string {
	value, what := pflag.UnquoteUsage(f)
	name := "**--" + f.Name + "**"
	if f.Shorthand != "" {
		name = "**-" + f.Shorthand + "**, " + name
	}
	if value != "" {
		name += " *" + value + "*"
	}
	what = strings.NewReplacer("*", "\\*", "_", "\\_", "\n", " ").Replace(what)
	if f.DefValue != "" && !slices.Contains([]string{"false", "0", "0s"}, f.DefValue) {
		what += " (default " + f.DefValue + ")"
	}
	return name + "\n:   " + what + "\n\n"
}
