package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// rootSize is the size of the file system of a root. The file is sparse.
const rootSize = "6G"

// presetFile keeps systemd from starting what packages bring: jobs start what they need.
const presetFile = "etc/systemd/system-preset/00-none.preset"

// root returns the image of a disk with a Debian of the kernel's suites: systemd and some packages. It is made once for
// each list of packages, by mmdebstrap, which takes some minutes; and again if a refresh is asked for. Tests with lists
// of their own so have roots of their own, and none makes that of another anew.
func (s *store) root(ctx context.Context, k kernel, packages []string) (path string, err error) {
	unlock, err := s.lock("lock-roots")
	if err != nil {
		return "", fmt.Errorf("lock %s: %w", s.dir, err)
	}
	defer unlock()
	want := strings.Join(slices.Concat(k.suites, packages), "\n") + "\n"
	sum := sha256.Sum256([]byte(want))
	path = filepath.Join(s.dir, "roots", fmt.Sprintf("%s-%s-%x.ext4", k.name, k.arch, sum[:4]))
	if have, err := os.ReadFile(path + ".packages"); err == nil && string(have) == want && !s.refresh {
		return path, nil
	}
	if err := s.makeRoot(ctx, k, packages, path); err != nil {
		return "", fmt.Errorf("make a Debian for kernel %s: %w", k.name, err)
	}
	return path, os.WriteFile(path+".packages", []byte(want), 0o644)
}

// makeRoot writes the image of a disk, all or nothing.
func (s *store) makeRoot(ctx context.Context, k kernel, packages []string, path string) error {
	if os.Getuid() != 0 {
		return withHint(errors.New("its files belong to several users"), "run it as root once")
	}
	disable, err := enableForeign(k.arch)
	if err != nil {
		return err
	}
	defer disable()
	sourcesList, err := s.sources(ctx, k)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(path), "part-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	list, tree, image := filepath.Join(work, "sources.list"), filepath.Join(work, "tree"), filepath.Join(work, "image")
	if err := os.WriteFile(list, []byte(sourcesList), 0o644); err != nil {
		return err
	}
	s.notice("kernel %s: making a Debian with %s, which takes some minutes", k.name, strings.Join(packages, ", "))
	hook := fmt.Sprintf(`mkdir -p "$1/%s" && echo "disable *" >"$1/%s" && chroot "$1" systemctl preset-all`,
		filepath.Dir(presetFile), presetFile)
	for _, command := range [][]string{
		{
			"mmdebstrap", "--mode=root", "--architectures=" + k.arch, "--skip=check/qemu",
			"--format=directory", "--variant=essential",
			"--include=systemd-sysv," + strings.Join(packages, ","), "--dpkgopt=path-exclude=/usr/share/locale/*",
			"--dpkgopt=path-exclude=/usr/share/doc/*", "--customize-hook=" + hook, k.suites[0], tree, list,
		},
		{"mkfs.ext4", "-q", "-d", tree, image, rootSize},
	} {
		if err := runTool(ctx, command); err != nil {
			return err
		}
	}
	return os.Rename(image, path)
}

// runTool runs a program. An error has the end of what it printed.
func runTool(ctx context.Context, command []string) error {
	if _, err := exec.LookPath(command[0]); err != nil {
		return withHint(fmt.Errorf("%s not found", command[0]), "install the packages mmdebstrap and e2fsprogs")
	}
	tool := exec.CommandContext(ctx, command[0], command[1:]...)
	tool.Cancel = func() error { return tool.Process.Signal(os.Interrupt) } // on which mmdebstrap cleans up
	out, err := tool.CombinedOutput()
	if err == nil {
		return nil
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return fmt.Errorf("%s: %w\n%s", command[0], err, bytes.Join(lines[max(0, len(lines)-tailLines):], []byte("\n")))
}
