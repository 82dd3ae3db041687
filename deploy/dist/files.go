package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// file is a file of the packages: a copy of from, or data.
type file struct {
	path string // where it is installed
	mode fs.FileMode
	from string
	data []byte
	deb  bool // only for Debian
}

// config is the one that users change.
const config = "/etc/closetrace/serve.yaml"

// The directories whose completions zsh reads, and that Debian's zsh reads.
const (
	zshSite   = "/usr/share/zsh/site-functions/"
	zshDebian = "/usr/share/zsh/vendor-completions/"
)

// packaging is the directory of the source that has what only packages have.
const packaging = "deploy/packages"

// documents is the directory of texts about the package.
const documents = "/usr/share/doc/closetrace/"

// files returns what the packages of a build have: what make install put into tree, in the order of the paths, with
// the program of that build, and texts.
func (s source) files(tree string, b build) ([]file, error) {
	var files []file
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		f, err := installed(path, "/"+strings.TrimPrefix(path, tree+"/"))
		if f.path == "/usr/bin/closetrace" {
			f = file{path: f.path, mode: 0o755, from: b.program}
		}
		files = append(files, f)
		return err
	})
	if err != nil {
		return nil, err
	}
	modules, err := listModules(b)
	if err != nil {
		return nil, err
	}
	texts := []file{
		{path: documents + "copyright", from: filepath.Join(s.dir, packaging, "copyright")},
		{path: documents + "sbom.cdx.json", data: modules},
		{path: "/usr/share/closetrace/seccomp.json", from: filepath.Join(s.dir, "deploy/seccomp/closetrace.json")},
		{path: documents + "changelog.gz", data: compressed(b.changelog()), deb: true},
		{
			path: "/usr/share/lintian/overrides/closetrace",
			from: filepath.Join(s.dir, packaging, "lintian-overrides"), deb: true,
		},
	}
	for _, f := range texts {
		f.mode = 0o644
		files = append(files, f)
	}
	return files, nil
}

// installed returns the file of a package for one that make install wrote: pages of the manual are compressed.
func installed(from, path string) (file, error) {
	f := file{path: path, mode: 0o644, from: from}
	if !strings.HasPrefix(path, "/usr/share/man/") {
		return f, nil
	}
	page, err := os.ReadFile(from)
	return file{path: path + ".gz", mode: f.mode, data: compressed(page)}, err
}

// content returns the bytes of the file.
func (f file) content() ([]byte, error) {
	if f.from == "" {
		return f.data, nil
	}
	return os.ReadFile(f.from)
}

// compressed returns data in gzip's format, without a name or a time.
func compressed(data []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is valid
	}
	_, _ = w.Write(data) // memory does not fail
	_ = w.Close()
	return b.Bytes()
}

// changelog returns the changes in Debian's format: which commit this is.
func (b build) changelog() []byte {
	return fmt.Appendf(nil, "closetrace (%s) unstable; urgency=medium\n\n  * Build of commit %s.\n\n -- %s  %s\n",
		b.version.tilde(), b.setting("vcs.revision"), maintainer, b.time.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
}

// setting returns what the build says about itself.
func (b build) setting(key string) string {
	for _, s := range b.info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
