package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/sink/table"
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

// examiner finds out what can be traced: examine, or a test's.
type examiner func(ctx context.Context, btf string) (*machine, error)

func newCheck(c *console, examine examiner) *cobra.Command {
	output, btf := formatTable, ""
	choices := flagvalue.OneOf(&output, formatTable, formatJSON)
	cmd := &cobra.Command{
		Use:                   "check [flags]",
		Short:                 "Show what can be traced on this machine, and what cannot",
		Args:                  noArguments,
		RunE:                  func(cmd *cobra.Command, _ []string) error { return check(cmd.Context(), c, examine, btf, output) },
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

// machine is what check found. It is also the output of -o json.
type machine struct {
	Schema     int                `json:"schema_version"`
	Kernel     string             `json:"kernel"`
	Arch       string             `json:"arch"`
	BTF        bool               `json:"btf"`
	BTFReason  string             `json:"btf_reason,omitempty"` // why there is no BTF
	Lockdown   string             `json:"lockdown"`
	Privileges []kernel.Privilege `json:"privileges"`
	*probe.Report
	// Unseen is what cannot be traced in the mode that closetrace uses here, or
	// without the missing privileges.
	Unseen []string `json:"unseen"`
}

// examine finds out what can be traced on this machine.
func examine(ctx context.Context, btf string) (*machine, error) {
	report, err := probe.Check(ctx, probe.Options{Attachment: probe.Attachment{BTF: btf}})
	if err != nil {
		return nil, err
	}
	m := &machine{
		Schema: events.SchemaVersion, Kernel: kernel.Release(), Arch: runtime.GOARCH, BTF: true,
		Lockdown: kernel.Lockdown(), Privileges: kernel.Privileges(), Report: report, Unseen: []string{},
	}
	if _, err := kernel.Running(nil, ""); err != nil {
		m.BTF, m.BTFReason = false, err.Error()
	}
	m.listUnseen()
	return m, nil
}

// listUnseen sets Unseen, unless nothing can be traced at all.
func (m *machine) listUnseen() {
	for _, mode := range m.Modes {
		if mode.Mode == m.Takes {
			m.Unseen = append(m.Unseen, mode.Unseen...)
		}
	}
	if m.Takes != "" {
		m.Unseen = append(m.Unseen, kernel.Unseen(m.Privileges)...)
	}
}

func check(ctx context.Context, c *console, examine examiner, btf string, output format) error {
	m, err := examine(ctx, btf)
	if err != nil {
		return interrupted(ctx, err)
	}
	if output == formatJSON {
		enc := json.NewEncoder(c.stdout)
		enc.SetEscapeHTML(false)
		err = enc.Encode(m)
	} else {
		err = m.print(c.stdout, c.stdout.width)
	}
	if err != nil {
		return pipeline.OutputFailure(err)
	}
	return m.Err
}

// print writes the report as tables that fit a width in cells; 0 means no limit.
func (m *machine) print(to io.Writer, width int) error {
	var b strings.Builder
	about := table.Table{Width: width, Columns: []table.Column{{}, {Wrap: true}}, Rows: [][]string{
		{"kernel", sink.OneLine(m.Kernel + ", " + m.Arch)}, {"BTF", yesOrNo(m.BTF)}, {"lockdown", sink.OneLine(m.Lockdown)},
	}}
	if !m.BTF {
		about.Rows[1][1] += ": " + sink.OneLine(m.BTFReason)
	}
	privileges := table.Table{
		Width: width, Columns: []table.Column{{Head: "PRIVILEGE"}, {Head: "HELD"}, {Head: "FOR", Wrap: true}},
	}
	for _, p := range m.Privileges {
		held := yesOrNo(p.Held)
		if p.Required && !p.Held {
			held = "MISSING"
		}
		privileges.Rows = append(privileges.Rows, []string{p.Name, held, p.For})
	}
	b.WriteString(about.String() + "\n" + privileges.String())
	for i := range m.Modes {
		hooks := modeTable(&m.Modes[i], width)
		b.WriteString("\n" + hooks.String())
	}
	if m.Takes != "" {
		fmt.Fprintf(&b, "\nclosetrace uses %s here.", m.Takes)
		if len(m.Unseen) > 0 {
			b.WriteString(" It does not report:")
		}
		b.WriteString("\n")
	}
	for _, unseen := range m.Unseen {
		b.WriteString("- " + strings.Join(table.Wrap(unseen, width-len("- ")), "\n  ") + "\n")
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// modeTable returns a table of a mode and its hooks. It omits the reason of a hook
// that is that of the mode.
func modeTable(mode *probe.ModeReport, width int) table.Table {
	t := table.Table{
		Width:   width,
		Columns: []table.Column{{Head: strings.ToUpper(string(mode.Mode))}, {Head: "WORKS"}, {Head: "FIRES", Wrap: true}},
		Rows:    [][]string{{"as a whole", yesOrNo(mode.Works), sink.OneLine(mode.Reason)}},
	}
	for _, h := range mode.Hooks {
		works := yesOrNo(h.Works)
		switch {
		case h.Needless && h.Reason == "":
			works = "not needed"
		case !h.Works && !h.Required && mode.Works:
			works = "no (optional)"
		}
		fires := h.Fires
		if h.Shared {
			fires += ", with --shared-closes only"
		}
		if h.Reason != "" && h.Reason != mode.Reason {
			fires += "; " + sink.OneLine(h.Reason)
		}
		t.Rows = append(t.Rows, []string{h.Hook, works, fires})
	}
	return t
}

func yesOrNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}
