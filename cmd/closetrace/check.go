package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/probe"
)

const checkAbout = `closetrace check says what can be traced on this machine, by which means, and what
will not be seen. It tries: every hook of every mode is loaded, attached and taken
off again.

The exit code is 0 only if tracing is possible.
`

const checkExamples = `Examples:
  sudo closetrace check
  closetrace check                  as somebody else: what is missing
  sudo closetrace check -o json | jq -r '.modes[] | select(.works) | .mode'
`

func newCheck(e *env) *cobra.Command {
	output := formatTable
	choices := choice[format]{&output, []format{formatTable, formatJSON}}
	cmd := &cobra.Command{
		Use:                   "check [flags]",
		Short:                 "Say what can be traced on this machine, and what will not be seen",
		Args:                  noArguments,
		RunE:                  func(cmd *cobra.Command, _ []string) error { return check(cmd.Context(), e, output) },
		DisableFlagsInUseLine: true,
	}
	g := newGroup("Flags")
	g.flags.VarP(choices, "output", "o", "table, or json: one object")
	g.flags.BoolP("help", "h", false, "print this")
	m := manual{about: checkAbout, groups: []flagGroup{g}, tail: exitCodes + "\n" + checkExamples}
	m.attach(cmd)
	complete(cmd, "output", choices.words())
	return cmd
}

// machine is what check says; its JSON form is that of -o json.
type machine struct {
	Schema     int                `json:"schema_version"`
	Kernel     string             `json:"kernel"`
	Arch       string             `json:"arch"`
	BTF        bool               `json:"btf"`
	BTFReason  string             `json:"btf_reason,omitempty"` // why there is none
	Lockdown   string             `json:"lockdown"`
	Privileges []kernel.Privilege `json:"privileges"`
	*probe.Report
	// Unseen is what will not be seen here: by the mode that is taken, and for
	// want of privileges.
	Unseen []string `json:"unseen"`
}

// examine looks at this machine.
func examine(ctx context.Context) (*machine, error) {
	report, err := probe.Check(ctx, probe.Options{})
	if err != nil {
		return nil, err
	}
	m := &machine{
		Schema: events.SchemaVersion, Kernel: kernel.Release(), Arch: runtime.GOARCH, BTF: true,
		Lockdown: kernel.Lockdown(), Privileges: kernel.Privileges(), Report: report, Unseen: []string{},
	}
	if _, err := kernel.Running(nil); err != nil {
		m.BTF, m.BTFReason = false, err.Error()
	}
	m.unsee()
	return m, nil
}

// unsee gathers what will not be seen, if there is anything to be seen.
func (m *machine) unsee() {
	for _, mode := range m.Modes {
		if mode.Mode == m.Takes {
			m.Unseen = append(m.Unseen, mode.Unseen...)
		}
	}
	if m.Takes != "" {
		m.Unseen = append(m.Unseen, kernel.Unseen(m.Privileges)...)
	}
}

func check(ctx context.Context, e *env, output format) error {
	m, err := e.examine(ctx)
	if err != nil {
		return interrupted(ctx, err)
	}
	if output == formatJSON {
		enc := json.NewEncoder(e.stdout)
		enc.SetEscapeHTML(false)
		err = enc.Encode(m)
	} else {
		err = m.print(e.stdout)
	}
	if err != nil {
		return outputError(err)
	}
	return m.Err
}

// print is for people.
func (m *machine) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "kernel\t%s, %s\n", m.Kernel, m.Arch)
	fmt.Fprintf(w, "BTF\t%s\n", yes(m.BTF, m.BTFReason))
	fmt.Fprintf(w, "lockdown\t%s\n", m.Lockdown)
	fmt.Fprint(w, "\nPRIVILEGE\tHELD\tFOR\n")
	for _, p := range m.Privileges {
		held := yes(p.Held, "")
		if p.Required && !p.Held {
			held = "MISSING"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", p.Name, held, p.For)
	}
	for i := range m.Modes {
		printMode(w, &m.Modes[i])
	}
	if m.Takes != "" {
		fmt.Fprintf(w, "\nclosetrace attaches by %s here.", m.Takes)
		if len(m.Unseen) > 0 {
			fmt.Fprint(w, " It does not see:")
		}
		fmt.Fprintln(w)
	}
	for _, unseen := range m.Unseen {
		fmt.Fprintf(w, "- %s\n", unseen)
	}
	return w.Flush()
}

// printMode lists a mode's hooks. What holds for the whole mode is said once.
func printMode(w io.Writer, mode *probe.ModeReport) {
	fmt.Fprintf(w, "\n%s\tWORKS\tFIRES\n", strings.ToUpper(string(mode.Mode)))
	fmt.Fprintf(w, "as a whole\t%s\n", yes(mode.Works, mode.Reason))
	for _, h := range mode.Hooks {
		works := yes(h.Works, "")
		switch {
		case h.Needless:
			works = "not needed"
		case !h.Works && !h.Required && mode.Works:
			works = "no, goes without"
		}
		fmt.Fprintf(w, "%s\t%s\t%s", h.Hook, works, h.Fires)
		if h.Shared {
			fmt.Fprint(w, ", with --shared-closes only")
		}
		if h.Reason != "" && h.Reason != mode.Reason {
			fmt.Fprintf(w, "; %s", h.Reason)
		}
		fmt.Fprintln(w)
	}
}

func yes(is bool, why string) string {
	switch {
	case is:
		return "yes"
	case why == "":
		return "no"
	}
	return "no: " + oneLine(why)
}
