package main

import (
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// version is the version of the main module, as go build finds it out from the tags of the repository.
type version struct {
	release string // three numbers
	pre     string // what distinguishes a version before that release; or nothing
	apk     string // pre as Alpine's package manager understands it
}

// alpinePre matches what Alpine's package manager knows before a release.
var alpinePre = regexp.MustCompile(`^(alpha|beta|rc)\.?(\d*)$`)

func parseVersion(text string) (version, error) {
	if !semver.IsValid(text) {
		return version{}, fmt.Errorf("the build has the version %q: the repository's commit is unknown to Go", text)
	}
	text = strings.TrimSuffix(text, semver.Build(text))
	v := version{pre: strings.TrimPrefix(semver.Prerelease(text), "-")}
	v.release = strings.TrimPrefix(strings.TrimSuffix(text, semver.Prerelease(text)), "v")
	switch pre := alpinePre.FindStringSubmatch(v.pre); {
	case module.IsPseudoVersion(text):
		stamp, err := module.PseudoVersionTime(text)
		if err != nil {
			return v, err
		}
		v.apk = "_alpha" + stamp.Format("20060102150405")
	case pre != nil:
		v.apk = "_" + pre[1] + pre[2]
	case v.pre != "":
		return v, fmt.Errorf("version %s: a version before a release ends with alpha, beta or rc and a number", text)
	}
	return v, nil
}

// String returns the version as it stands in the names of archives.
func (v version) String() string {
	if v.pre == "" {
		return v.release
	}
	return v.release + "-" + v.pre
}

// tilde returns the version as dpkg and rpm sort it: before the release. A hyphen would begin the revision.
func (v version) tilde() string {
	if v.pre == "" {
		return v.release
	}
	return v.release + "~" + strings.ReplaceAll(v.pre, "-", ".")
}

// alpine returns the version as Alpine's package manager sorts it.
func (v version) alpine() string { return v.release + v.apk }
