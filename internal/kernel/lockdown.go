package kernel

import (
	"os"
	"strings"
)

// Lockdown returns the lockdown mode of the kernel: none, integrity, or confidentiality, which forbids tracing. It
// returns "unknown" if the kernel has no lockdown or securityfs is not mounted.
func Lockdown() string {
	text, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return "unknown"
	}
	return chosenOf(string(text))
}

// chosenOf returns b of "a [b] c".
func chosenOf(choices string) string {
	_, rest, _ := strings.Cut(choices, "[")
	chosen, _, found := strings.Cut(rest, "]")
	if !found || chosen == "" {
		return "unknown"
	}
	return chosen
}
