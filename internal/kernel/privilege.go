package kernel

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CheckPrivileges returns an [Error] of kind [ErrPrivilege] if this process
// cannot load tracing programs: that takes CAP_BPF and CAP_PERFMON (Linux 5.8),
// or CAP_SYS_ADMIN, which includes both.
func CheckPrivileges() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("reading this process's capabilities: %w", err)
	}
	caps, err := effectiveCapabilities(string(status))
	if err != nil {
		return err
	}
	missing := missingCapabilities(caps)
	if missing == "" {
		return nil
	}
	return &Error{
		Kind: ErrPrivilege,
		What: fmt.Sprintf("tracing on kernel %s needs more privileges: %s missing", Release(), missing),
		Next: "run as root: sudo closetrace",
	}
}

// effectiveCapabilities reads the CapEff line of /proc/PID/status.
func effectiveCapabilities(status string) (uint64, error) {
	for line := range strings.Lines(status) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("reading this process's capabilities: %w", err)
			}
			return caps, nil
		}
	}
	return 0, fmt.Errorf("reading this process's capabilities: no CapEff line")
}

// missingCapabilities names what is missing for tracing, "" if nothing is.
func missingCapabilities(caps uint64) string {
	if caps&(1<<unix.CAP_SYS_ADMIN) != 0 {
		return ""
	}
	var missing []string
	if caps&(1<<unix.CAP_BPF) == 0 {
		missing = append(missing, "CAP_BPF")
	}
	if caps&(1<<unix.CAP_PERFMON) == 0 {
		missing = append(missing, "CAP_PERFMON")
	}
	return strings.Join(missing, " and ")
}
