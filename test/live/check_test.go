//go:build linux

package live

import (
	"encoding/json"
	"log/slog"
	"os/exec"
	"slices"
	"testing"

	"github.com/closetrace/closetrace/internal/probe"
)

// What check says of a mode is so when it traces, also where a hook is refused:
// it works without it, and says why and what is not seen.
func TestCheck(t *testing.T) {
	privileged(t)
	mode := probe.Mode(*attach)
	if mode == probe.Auto {
		taken := trace(t, probe.Filter{})
		mode = probe.Mode(taken.header.Attach)
		taken.finish(t)
	}
	fault := probe.Fault{Hook: probe.Optional(mode)[len(probe.Optional(mode))-1], At: probe.AtLoad}
	tr := traceWith(t, probe.Options{Fault: fault, Log: slog.New(slog.DiscardHandler)})
	header := tr.header
	tr.finish(t)
	report, err := probe.Check(t.Context(), probe.Options{Attach: mode, Fault: fault, Shared: shared})
	must(t, err)
	m := report.Modes[0]
	if m.Mode != mode || !m.Works || report.Takes != mode || report.Err != nil {
		t.Fatalf("%+v, %v", m, report.Err)
	}
	for _, h := range m.Hooks {
		if h.Fires == "" || !h.Works && !h.Needless && (h.Reason == "" || !slices.Contains(m.Unseen, h.Unseen)) {
			t.Errorf("not all is said: %+v", h)
		}
		if h.Shared {
			continue
		}
		if attached := slices.Contains(header.Hooks, h.Hook); attached != h.Works {
			t.Errorf("%s: attached %v, check says %v", h.Hook, attached, h.Works)
		}
		if missing := slices.Contains(header.Missing, h.Hook); missing == (h.Works || h.Needless) {
			t.Errorf("%s: missing %v, check says %+v", h.Hook, missing, h)
		}
	}
	if !slices.Contains(header.Missing, fault.Hook) {
		t.Errorf("%s is not missing", fault.Hook)
	}
	eventually(t, "programs gone", func() bool { return len(ours(t)) == 0 })
}

// The command tries all modes of a kernel.
func TestCheckCommand(t *testing.T) {
	privileged(t)
	path, err := program()
	must(t, err)
	out, err := exec.Command(path, "check", "-o", "json").Output()
	must(t, err)
	var got struct {
		Kernel string
		BTF    bool
		probe.Report
	}
	must(t, json.Unmarshal(out, &got))
	works := slices.ContainsFunc(got.Modes, func(m probe.ModeReport) bool { return m.Works && m.Mode == got.Takes })
	if got.Kernel == "" || !got.BTF || !works || len(got.Modes) != 3 {
		t.Errorf("%s", out)
	}
}
