package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

const (
	mirrorEnv  = "CLOSETRACE_DEBIAN_MIRROR"
	mirrorForm = `="MIRROR-URI [SECURITY-URI]"`
	keyring    = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// archives are the URIs of a Debian mirror and of Debian's security archive; security may be unknown.
type archives struct {
	main, security string
}

// findArchives returns the archives of CLOSETRACE_DEBIAN_MIRROR ("MIRROR [SECURITY]"), or of this system's apt. apt
// verifies what comes from them.
func findArchives(ctx context.Context) (archives, error) {
	if uris := strings.Fields(os.Getenv(mirrorEnv)); len(uris) > 0 {
		return archives{main: uris[0], security: strings.Join(uris[1:], " ")}, nil
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets",
		"--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return archives{}, withHint(
			errors.New("apt-get not found"),
			"kernels come from Debian packages: run this on Debian or a derivative",
		)
	}
	if err != nil {
		return archives{}, fmt.Errorf("apt-get indextargets: %w", err)
	}
	found := parseTargets(string(out))
	if found.main == "" {
		return archives{}, withHint(
			errors.New("this system's apt knows of no Debian archive"),
			"set "+mirrorEnv+" to the URI of a Debian mirror",
		)
	}
	return found, nil
}

// parseTargets returns the first of each archive in lines of origin, label and URI.
func parseTargets(text string) archives {
	var found archives
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		if len(fields) != 3 || fields[0] != "Debian" {
			continue
		}
		switch uri := fields[2]; {
		case fields[1] == "Debian" && found.main == "":
			found.main = uri
		case fields[1] == "Debian-Security" && found.security == "":
			found.security = uri
		}
	}
	return found
}

// sources returns the sources.list for a kernel, and the suites that it leaves out because no archive is known for
// them. apt verifies all of it against Debian's archive keys, and nothing else.
func sources(k kernel, a archives) (list string, leftOut []string) {
	var b strings.Builder
	for _, suite := range k.suites {
		uri := a.main
		if strings.HasSuffix(suite, "-security") {
			uri = a.security
		}
		if uri == "" {
			leftOut = append(leftOut, suite)
			continue
		}
		fmt.Fprintf(&b, "deb [arch=%s signed-by=%s target=Packages] %s %s main\n", k.arch, keyring, uri, suite)
	}
	return b.String(), leftOut
}
