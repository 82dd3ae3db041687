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

// usedMode returns the attach mode that the tests use here.
func usedMode(t testing.TB) probe.Mode {
	if mode := probe.Mode(*attach); mode != probe.Auto {
		return mode
	}
	tr := trace(t, probe.Filter{})
	defer tr.finish(t)
	return probe.Mode(tr.header.Attach)
}

// What check reports about a mode holds when it traces, also where a hook is
// refused: check then works without it and gives the reason and what is hidden.
func TestCheck(t *testing.T) {
	privileged(t)
	mode := usedMode(t)
	fault := probe.Fault{Hook: probe.Optional(mode)[len(probe.Optional(mode))-1], At: probe.AtLoad}
	tr := traceWith(t, probe.Options{Fault: fault, Log: slog.New(slog.DiscardHandler)})
	header := tr.header
	tr.finish(t)
	report, err := probe.Check(t.Context(), probe.Options{
		Attachment: probe.Attachment{Attach: mode}, Fault: fault, Shared: shared,
	})
	must(t, err)
	m := report.Modes[0]
	if m.Mode != mode || !m.Works || report.Takes != mode || report.Err != nil {
		t.Fatalf("%+v, %v", m, report.Err)
	}
	for _, h := range m.Hooks {
		isExplained := h.Reason != "" && slices.Contains(m.Unseen, h.Unseen)
		if h.Fires == "" || !h.Works && !isExplained && (!h.Needless || h.Reason != "") {
			t.Errorf("incomplete: %+v", h)
		}
		if h.Shared {
			continue
		}
		if attached := slices.Contains(header.Hooks, h.Hook); attached != h.Works {
			t.Errorf("%s: attached %v, by check %v", h.Hook, attached, h.Works)
		}
		if missing := slices.Contains(header.Missing, h.Hook); missing == (h.Works || h.Needless) {
			t.Errorf("%s: missing %v, by check %+v", h.Hook, missing, h)
		}
	}
	if !slices.Contains(header.Missing, fault.Hook) {
		t.Errorf("%s is not missing", fault.Hook)
	}
	checkDetached(t, nil)
}

// closetrace check tries all modes of a kernel.
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
