//go:build linux

package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// peerFiles returns the programs of the peers that this machine has, with the libraries they are linked with.
func peerFiles() []string {
	var files []string
	for _, p := range peers() {
		if _, err := os.Stat(p.argv[0]); err != nil {
			continue // the guest reports that it is absent
		}
		files = append(files, p.argv[0])
		if out, err := exec.Command("ldd", p.argv[0]).Output(); err == nil {
			files = append(files, libraries(string(out))...)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

var library = regexp.MustCompile(`(?m)^\s*(?:\S+ => )?(/\S+) \(0x`)

// libraries returns the files in the output of ldd.
func libraries(ldd string) []string {
	var files []string
	for _, m := range library.FindAllStringSubmatch(ldd, -1) {
		files = append(files, m[1])
	}
	return files
}

// peerVersions returns the installed packages of the peers, as PACKAGE VERSION.
func peerVersions() []string {
	var versions []string
	for _, p := range peers() {
		out, err := exec.Command("dpkg-query", "-W", "-f", "${Package} ${Version}", p.pkg).Output()
		if text := string(out); err == nil && !strings.HasSuffix(text, " ") {
			versions = append(versions, text)
		}
	}
	slices.Sort(versions)
	return slices.Compact(versions)
}
