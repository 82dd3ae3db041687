package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// architectures are those of the packages, by the names that Go and Debian share.
var architectures = []string{"amd64", "arm64"}

// source is a clone of the repository at one commit.
type source struct {
	dir    string
	time   time.Time // of the commit
	stderr io.Writer
}

// checkOut clones a commit of a repository into dir. A clone has no uncommitted change, and Go finds its version there
// also where the repository is a worktree.
func checkOut(repository, commit, dir string, stderr io.Writer) (source, error) {
	s := source{dir: dir, stderr: stderr}
	from, err := filepath.Abs(repository)
	if err != nil {
		return s, err
	}
	hash, err := git(from, "rev-parse", "--verify", commit+"^{commit}")
	if err != nil {
		return s, err
	}
	if _, err := git(from, "clone", "--quiet", "--no-checkout", "--shared", from, dir); err != nil {
		return s, err
	}
	if _, err := git(dir, "checkout", "--quiet", "--detach", hash); err != nil {
		return s, err
	}
	stamp, err := git(dir, "log", "-1", "--format=%cI")
	if err != nil {
		return s, err
	}
	if s.time, err = time.Parse(time.RFC3339, stamp); err != nil {
		return s, err
	}
	s.time = s.time.UTC()
	return s, s.dateScripts()
}

// dateScripts gives the scripts of the packages the time of the commit, which an apk has of them.
func (s source) dateScripts() error {
	scripts, err := filepath.Glob(filepath.Join(s.dir, packaging, "*.sh"))
	for _, script := range scripts {
		err = errors.Join(err, os.Chtimes(script, s.time, s.time))
	}
	return err
}

// git runs a command of git in dir and returns its output without the last newline.
func git(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
	out, err := cmd.Output()
	if exit, ok := err.(*exec.ExitError); ok {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimRight(string(out), "\n"), err
}

// build is closetrace for one architecture.
type build struct {
	arch    string
	source  string               // the directory of the clone
	program string               // the file of the command
	files   []file               // what make install installs, the program among it
	info    *buildinfo.BuildInfo // of the program
	version version
	time    time.Time // of the commit
}

// buildAll builds closetrace for each architecture below dir. What is the same for all, the manual and the
// completions, is printed by a build for this machine.
func (s source) buildAll(dir string) ([]build, error) {
	tree := filepath.Join(dir, "tree")
	if err := s.make(runtime.GOARCH, "install", "DESTDIR="+tree, "PREFIX=/usr", "SYSCONFDIR=/etc"); err != nil {
		return nil, err
	}
	var builds []build
	for _, arch := range architectures {
		if err := s.make(arch, "build"); err != nil {
			return nil, err
		}
		b := build{arch: arch, source: s.dir, program: filepath.Join(dir, "closetrace-"+arch), time: s.time}
		if err := os.Rename(filepath.Join(s.dir, "closetrace"), b.program); err != nil {
			return nil, err
		}
		var err error
		if b.info, err = buildinfo.ReadFile(b.program); err != nil {
			return nil, err
		}
		if b.version, err = parseVersion(b.info.Main.Version); err != nil {
			return nil, err
		}
		if b.files, err = s.files(tree, b); err != nil {
			return nil, err
		}
		builds = append(builds, b)
	}
	return builds, nil
}

// make runs a target of the Makefile for an architecture. Nothing of the caller's environment changes what is built.
func (s source) make(arch, target string, variables ...string) error {
	cmd := exec.Command("make", append([]string{"-C", s.dir, "--no-print-directory", target, "LDFLAGS=-s -w"},
		variables...)...)
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if name != "DESTDIR" && name != "MAKEFLAGS" && name != "MAKELEVEL" {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=-buildvcs=true",
		"GOEXPERIMENT=", "GOWORK=off", "LC_ALL=C", "TZ=UTC", "SOURCE_DATE_EPOCH="+fmt.Sprint(s.time.Unix()))
	cmd.Stdout, cmd.Stderr = s.stderr, s.stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make %s for %s: %w", target, arch, err)
	}
	return nil
}
