// Package debian fetches and unpacks Debian packages, without installing them. It neither reads nor changes what is
// installed.
package debian

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/closetrace/closetrace/internal/hint"
)

// APT runs the system's apt with its own state below Dir. It neither reads nor changes the system's state.
type APT struct{ Dir, Arch string }

// New makes that state with a sources.list.
func New(dir, arch, sourcesList string) (APT, error) {
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return APT{}, err
		}
	}
	return APT{dir, arch}, os.WriteFile(filepath.Join(dir, "sources.list"), []byte(sourcesList), 0o644)
}

// Run runs one of apt's programs in a directory and returns its standard output. An error contains apt's own.
func (a APT) Run(ctx context.Context, workDir, program string, args ...string) (string, error) {
	options := []string{
		"-o", "Dir::State=" + a.Dir,
		"-o", "Dir::State::lists=" + filepath.Join(a.Dir, "lists"),
		"-o", "Dir::State::status=/dev/null",
		"-o", "Dir::Cache=" + a.Dir,
		"-o", "Dir::Cache::archives=" + filepath.Join(a.Dir, "archives"),
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(a.Dir, "sources.list"),
		"-o", "Dir::Etc::sourceparts=/dev/null",
		"-o", "Dir::Etc::preferences=/dev/null",
		"-o", "Dir::Etc::preferencesparts=/dev/null",
		"-o", "APT::Architecture=" + a.Arch,
		"-o", "APT::Architectures=" + a.Arch,
		"-o", "APT::Sandbox::User=", // its user could not read a home directory
		"-q",
	}
	cmd := exec.CommandContext(ctx, program, append(options, args...)...)
	cmd.Dir = workDir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w%s", program, strings.Join(args, " "), err, complaint(stderr.String()))
	}
	return stdout.String(), nil
}

// complaint returns apt's errors, or its warnings if there are none, on one line.
func complaint(stderr string) string {
	for _, kind := range []string{"E: ", "W: "} {
		var found []string
		for line := range strings.Lines(stderr) {
			if text, ok := strings.CutPrefix(line, kind); ok {
				found = append(found, strings.TrimSpace(text))
			}
		}
		if len(found) > 0 {
			return ": " + strings.Join(found, "; ")
		}
	}
	return ""
}

// Update fetches and verifies the metadata; any failure is an error.
func (a APT) Update(ctx context.Context) error {
	if _, err := a.Run(ctx, a.Dir, "apt-get", "update", "--error-on=any"); err != nil {
		return &hint.Error{Err: err, Hint: "check the network, or set " + MirrorEnv + MirrorForm}
	}
	return nil
}

// Extract downloads packages (NAME or NAME=VERSION), which apt verifies, and unpacks them into root.
func (a APT) Extract(ctx context.Context, packages []string, root string) error {
	debs, err := os.MkdirTemp(a.Dir, "debs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(debs)
	if _, err := a.Run(ctx, debs, "apt-get", append([]string{"download"}, packages...)...); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	if len(files) != len(packages) {
		return fmt.Errorf("apt-get download: %d files for %d packages", len(files), len(packages))
	}
	for _, file := range files {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", file, root).CombinedOutput(); err != nil {
			return fmt.Errorf("dpkg-deb -x %s: %w: %s", filepath.Base(file), err, bytes.TrimSpace(out))
		}
	}
	return nil
}
