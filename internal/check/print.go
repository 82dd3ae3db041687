package check

import (
	"fmt"
	"io"
	"strings"

	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/sink/table"
)

// Print writes the report as tables that fit a width in cells; 0 means no limit.
func (m *Machine) Print(to io.Writer, width int) error {
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
