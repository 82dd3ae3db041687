package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/apk"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/rpm"
)

const (
	maintainer  = "The closetrace authors <closetrace@users.noreply.github.com>"
	homepage    = "https://github.com/closetrace/closetrace"
	description = `show how and why each TCP connection ended
closetrace traces the kernel's decisions to end TCP connections. It reports the
path that the kernel took, the evidence, and the process that caused it.`
)

func writeDeb(dir string, b build) (string, error) {
	return b.writePackage(dir, b.version.tilde(), deb.Default, true)
}

func writeRPM(dir string, b build) (string, error) {
	return b.writePackage(dir, b.version.tilde(), rpm.DefaultRPM, false)
}

func writeAPK(dir string, b build) (string, error) {
	return b.writePackage(dir, b.version.alpine(), apk.Default, false)
}

// writePackage writes one package and returns its name.
func (b build) writePackage(dir, version string, to nfpm.Packager, debian bool) (name string, err error) {
	work, err := os.MkdirTemp("", "closetrace-package-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	contents, err := b.contents(work, debian)
	if err != nil {
		return "", err
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "closetrace", Arch: b.arch, Platform: "linux", Version: version, VersionSchema: "none",
		Section: "net", Priority: "optional", Maintainer: maintainer, Description: description, Homepage: homepage,
		License: "Apache-2.0", DisableGlobbing: true, MTime: b.time,
		Overridables: nfpm.Overridables{
			Contents: contents,
			Scripts: nfpm.Scripts{
				PostInstall: b.script("postinstall.sh"), PreRemove: b.script("preremove.sh"),
				PostRemove: b.script("postremove.sh"),
			},
			RPM: nfpm.RPM{BuildHost: "closetrace", Summary: "Show how and why each TCP connection ended"},
		},
	})
	// GitHub replaces the tilde of a version before a release by a period in the names of files of a release. SHA256SUMS
	// has the names, and package managers read the version in the package.
	name = strings.ReplaceAll(to.ConventionalFileName(info), "~", ".")
	out, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	return name, errors.Join(to.Package(info, out), out.Close())
}

// script returns the file of a script of the packages.
func (b build) script(name string) string { return filepath.Join(b.source, packaging, name) }

// contents returns the files of a package. What is not a file yet is written into work.
func (b build) contents(work string, debian bool) (all files.Contents, err error) {
	for _, f := range b.filesFor(debian) {
		if f.from == "" {
			f.from = filepath.Join(work, filepath.Base(f.path))
			if err := os.WriteFile(f.from, f.data, 0o644); err != nil {
				return nil, err
			}
		}
		kind := files.TypeFile
		if f.path == config {
			kind = files.TypeConfigNoReplace
		}
		all = append(all, &files.Content{
			Source: f.from, Destination: f.path, Type: kind,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: f.mode, MTime: b.time},
		})
	}
	return all, nil
}

// filesFor returns the files for Debian and its derivatives, or for the others.
func (b build) filesFor(debian bool) []file {
	var some []file
	for _, f := range b.files {
		if f.deb && !debian {
			continue
		}
		if name, ok := strings.CutPrefix(f.path, zshSite); ok && debian {
			f.path = zshDebian + name
		}
		some = append(some, f)
	}
	return some
}
