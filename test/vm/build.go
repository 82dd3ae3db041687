package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// program is a program of this module in the guest.
type program struct {
	path string // in the guest
	pkg  string // relative to the module's root
	test bool   // built by go test -c
}

const (
	initPath       = "/init"
	closetracePath = "/bin/closetrace"
	liveTestPath   = "/bin/live.test"
)

// programsFor returns the programs that the jobs need: always init, and closetrace, which others may run. It includes
// tests only for jobs that run them, so that tests that do not compile do not stop other jobs.
func programsFor(jobs []guest.Job) []program {
	programs := []program{
		{path: initPath, pkg: "./test/vm/init"},
		{path: closetracePath, pkg: "./cmd/closetrace"},
	}
	runsLive := func(j guest.Job) bool { return j.Argv[0] == liveTestPath }
	if slices.ContainsFunc(jobs, runsLive) {
		programs = append(programs, program{path: liveTestPath, pkg: "./test/live", test: true})
	}
	return programs
}

// moduleRoot returns the directory of closetrace's go.mod.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", withHint(fmt.Errorf("go list -m: %w", err), "run it inside closetrace's checkout")
	}
	return strings.TrimSpace(string(out)), nil
}

// builds caches what was compiled, by architecture.
type builds struct {
	root, dir string
	mu        sync.Mutex
	done      map[string][]file
}

func newBuilds(root string) (*builds, error) {
	dir, err := os.MkdirTemp("", "closetrace-build-")
	return &builds{root: root, dir: dir, done: map[string][]file{}}, err
}

func (b *builds) remove() { os.RemoveAll(b.dir) }

// files compiles programs for an architecture once: they are the same for every kernel.
func (b *builds) files(ctx context.Context, arch string, programs []program) ([]file, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done[arch] != nil {
		return slices.Clone(b.done[arch]), nil
	}
	files, err := build(ctx, b.root, filepath.Join(b.dir, arch), arch, programs)
	b.done[arch] = files
	return slices.Clone(files), err
}

// build compiles programs for an architecture, each linked statically, into files below dir.
func build(ctx context.Context, root, dir, arch string, programs []program) ([]file, error) {
	var files []file
	for _, b := range programs {
		out := filepath.Join(dir, filepath.Base(b.path))
		args := []string{"build", "-o", out, b.pkg}
		if b.test {
			args = []string{"test", "-c", "-o", out, b.pkg}
		}
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if output, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w: %s", b.pkg, err, bytes.TrimSpace(output))
		}
		if _, err := os.Stat(out); err != nil {
			return nil, fmt.Errorf("build %s: no program came out: %w", b.pkg, err)
		}
		files = append(files, file{name: b.path, mode: 0o755, from: out})
	}
	return files, nil
}
