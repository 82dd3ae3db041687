package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/closetrace/closetrace/internal/hint"
)

const (
	// MirrorEnv is the variable with the archives to use, and MirrorForm what it holds.
	MirrorEnv  = "CLOSETRACE_DEBIAN_MIRROR"
	MirrorForm = `="MIRROR-URI [SECURITY-URI]"`
	// Keyring has the keys of Debian's archives.
	Keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// Archives are the URIs of a Debian mirror and of Debian's security archive; Security may be unknown.
type Archives struct{ Main, Security string }

// FindArchives returns the archives of CLOSETRACE_DEBIAN_MIRROR ("MIRROR [SECURITY]"), or of this system's apt. apt
// verifies what comes from them.
func FindArchives(ctx context.Context) (Archives, error) {
	if uris := strings.Fields(os.Getenv(MirrorEnv)); len(uris) > 0 {
		return Archives{Main: uris[0], Security: strings.Join(uris[1:], " ")}, nil
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets",
		"--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return Archives{}, &hint.Error{
			Err:  errors.New("apt-get not found"),
			Hint: "this comes from Debian packages: run it on Debian or a derivative",
		}
	}
	if err != nil {
		return Archives{}, fmt.Errorf("apt-get indextargets: %w", err)
	}
	found := parseTargets(string(out))
	if found.Main == "" {
		return Archives{}, &hint.Error{
			Err:  errors.New("this system's apt knows of no Debian archive"),
			Hint: "set " + MirrorEnv + " to the URI of a Debian mirror",
		}
	}
	return found, nil
}

// parseTargets returns the first of each archive in lines of origin, label and URI.
func parseTargets(text string) Archives {
	var found Archives
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		if len(fields) != 3 || fields[0] != "Debian" {
			continue
		}
		switch uri := fields[2]; {
		case fields[1] == "Debian" && found.Main == "":
			found.Main = uri
		case fields[1] == "Debian-Security" && found.Security == "":
			found.Security = uri
		}
	}
	return found
}

// Sources returns a sources.list for suites, and those that it leaves out because no archive is known for them. apt
// verifies all of it against Debian's archive keys, and nothing else.
func Sources(suites []string, arch string, a Archives) (list string, leftOut []string) {
	var b strings.Builder
	for _, suite := range suites {
		uri := a.Main
		if strings.HasSuffix(suite, "-security") {
			uri = a.Security
		}
		if uri == "" {
			leftOut = append(leftOut, suite)
			continue
		}
		fmt.Fprintf(&b, "deb [arch=%s signed-by=%s target=Packages] %s %s main\n", arch, Keyring, uri, suite)
	}
	return b.String(), leftOut
}
