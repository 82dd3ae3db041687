package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
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
	inManual(root)
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
	var flags strings.Builder
	for _, g := range m.groups {
		fmt.Fprintf(&flags, "### %s\n\n", g.title)
		g.flags.VisitAll(func(f *pflag.Flag) { flags.WriteString(flagEntry(f)) })
	}
	cmd.Long, cmd.Example = m.about+"\n# OPTIONS\n\n"+flags.String(), examples
	// Exit codes of closetrace, or of run, are headed by words of their own.
	if title, list, ok := strings.Cut(strings.TrimSpace(codes), "\n"); ok {
		cmd.Long += "# EXIT STATUS\n\n" + title + "\n\n    " + strings.ReplaceAll(list, "\n", "\n    ") + "\n"
	}
	cmd.Annotations = map[string]string{hasOptions: ""}
}

// hasOptions marks a command whose Long has what there is to say of its flags.
const hasOptions = "closetrace: options"

// inManual keeps the library from listing flags that stand in a command's Long.
func inManual(cmd *cobra.Command) {
	if _, ok := cmd.Annotations[hasOptions]; ok {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = true })
	}
	for _, below := range cmd.Commands() {
		inManual(below)
	}
}

// flagEntry is what a page has on a flag: as in the help, in Markdown.
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
