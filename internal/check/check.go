// Package check finds out what can be traced on this machine, and what cannot.
package check

import (
	"context"
	"runtime"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/probe"
)

// Machine is what Examine found. It is also the output of -o json.
type Machine struct {
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

// Examine finds out what can be traced on this machine: it loads, attaches and detaches every hook of every mode. btf
// is a file with the types of a kernel that has none; "" is no file.
func Examine(ctx context.Context, btf string) (*Machine, error) {
	report, err := probe.Check(ctx, probe.Options{Attachment: probe.Attachment{BTF: btf}})
	if err != nil {
		return nil, err
	}
	m := &Machine{
		Schema: events.SchemaVersion, Kernel: kernel.Release(), Arch: runtime.GOARCH, BTF: true,
		Lockdown: kernel.Lockdown(), Privileges: kernel.Privileges(), Report: report, Unseen: []string{},
	}
	if _, err := kernel.Running(nil, ""); err != nil {
		m.BTF, m.BTFReason = false, err.Error()
	}
	m.ListUnseen()
	return m, nil
}

// ListUnseen sets Unseen, unless nothing can be traced at all.
func (m *Machine) ListUnseen() {
	for _, mode := range m.Modes {
		if mode.Mode == m.Takes {
			m.Unseen = append(m.Unseen, mode.Unseen...)
		}
	}
	if m.Takes != "" {
		m.Unseen = append(m.Unseen, kernel.Unseen(m.Privileges)...)
	}
}
