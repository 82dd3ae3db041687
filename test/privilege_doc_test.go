//go:build linux

package test

import (
	"os"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/kernel"
)

// docs/privileges.md has the capabilities that the live tests run with.
func TestCapabilitiesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/privileges.md")
	if err != nil {
		t.Fatal(err)
	}
	if line := "sudo setcap " + kernel.FileCapabilities + " closetrace\n"; !strings.Contains(string(page), line) {
		t.Errorf("docs/privileges.md has no line %q", line)
	}
	list, _, _ := strings.Cut(kernel.FileCapabilities, "=")
	var flags []string
	for name := range strings.SplitSeq(list, ",") {
		flags = append(flags, "--cap-add="+strings.ToUpper(strings.TrimPrefix(name, "cap_")))
	}
	if want := strings.Join(flags, " "); !strings.Contains(string(page), want+" ") {
		t.Errorf("docs/privileges.md does not run a container with %s", want)
	}
}
