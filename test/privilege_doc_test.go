//go:build linux

package test

import (
	"os"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/kernel"
)

// The README gives the capabilities that the live tests run with.
func TestCapabilitiesInReadme(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if line := "sudo setcap " + kernel.FileCapabilities + " closetrace\n"; !strings.Contains(string(readme), line) {
		t.Errorf("the README has no line %q", line)
	}
	list, _, _ := strings.Cut(kernel.FileCapabilities, "=")
	var flags []string
	for name := range strings.SplitSeq(list, ",") {
		flags = append(flags, "--cap-add="+strings.ToUpper(strings.TrimPrefix(name, "cap_")))
	}
	if want := strings.Join(flags, " "); !strings.Contains(string(readme), want+" ") {
		t.Errorf("the README does not run a container with %s", want)
	}
}
