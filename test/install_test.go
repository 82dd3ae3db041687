//go:build linux

package test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/kernel"
)

const unitFile = "../deploy/systemd/closetrace.service"

// make install puts everything below DESTDIR, with PREFIX in the unit; it leaves a configuration alone, and make
// uninstall removes the rest. All users may read it, whatever the umask of root. What it installs works: the example
// configuration is valid, also with what is commented out, and each page of the manual has a text.
func TestInstall(t *testing.T) {
	dest := t.TempDir()
	install := func(target string) {
		t.Helper()
		cmd := exec.Command("sh", "-c", `umask 077; exec make "$@"`, "sh",
			"-C", "..", target, "DESTDIR="+dest, "PREFIX=/opt/closetrace", "SYSCONFDIR=/opt/etc")
		cmd.Env = append(os.Environ(), "MAKEFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v\n%s", target, err, out)
		}
	}
	install("install")
	installed := filesBelow(t, dest)
	for _, want := range []string{
		"opt/closetrace/bin/closetrace", "opt/closetrace/share/man/man8/closetrace.8",
		"opt/closetrace/share/man/man8/closetrace-serve.8", "opt/closetrace/lib/systemd/system/closetrace.service",
		"opt/closetrace/share/bash-completion/completions/closetrace",
		"opt/closetrace/share/fish/vendor_completions.d/closetrace.fish",
		"opt/closetrace/share/zsh/site-functions/_closetrace", "opt/etc/closetrace/serve.yaml",
	} {
		if !slices.Contains(installed, want) {
			t.Errorf("%s is not installed", want)
		}
	}
	for _, file := range installed {
		if info, err := os.Stat(filepath.Join(dest, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, empty", file, err)
		} else if info.Mode().Perm()&0o044 != 0o044 {
			t.Errorf("%s is not for all users, with umask 077: %s", file, info.Mode())
		}
	}
	unit := readFile(t, filepath.Join(dest, "opt/closetrace/lib/systemd/system/closetrace.service"))
	const start = "\nExecStart=/opt/closetrace/bin/closetrace serve --config /opt/etc/closetrace/serve.yaml\n"
	if !strings.Contains(unit, start) {
		t.Errorf("the unit has no line %q:\n%s", start, unit)
	}

	config := filepath.Join(dest, "opt/etc/closetrace/serve.yaml")
	checkConfig(t, filepath.Join(dest, "opt/closetrace/bin/closetrace"), config)

	if err := os.WriteFile(config, []byte("last: 7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	install("install")
	if text := readFile(t, config); text != "last: 7\n" {
		t.Errorf("a second make install changed the configuration to %q", text)
	}
	install("uninstall")
	if left := filesBelow(t, dest); !slices.Equal(left, []string{"opt/etc/closetrace/serve.yaml"}) {
		t.Errorf("make uninstall leaves %q", left)
	}
}

// checkConfig checks a configuration as it is, and with the keys that are commented out.
func checkConfig(t *testing.T, closetrace, config string) {
	t.Helper()
	commented := regexp.MustCompile(`(?m)^# ([a-z-]+: )`)
	text := readFile(t, config)
	all := commented.ReplaceAllString(text, "$1")
	if all == text {
		t.Error("nothing is commented out")
	}
	whole := filepath.Join(t.TempDir(), "whole.yaml")
	if err := os.WriteFile(whole, []byte(all), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{config, whole} {
		if out, err := exec.Command(closetrace, "serve", "--config", file, "--check-config").CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

// filesBelow returns the paths of the files of a directory.
func filesBelow(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// systemd starts the service again after a failure, at an interval at which it never gives up, unless waiting does not
// help.
func TestUnitIsStartedAgain(t *testing.T) {
	unit := readFile(t, unitFile)
	const starts, within = 5, 10 * time.Second // systemd's defaults
	sec := regexp.MustCompile(`(?m)^RestartSec=(\w+)$`).FindStringSubmatch(unit)
	if sec == nil {
		t.Fatal("RestartSec is systemd's 100 ms: after 5 starts it gives up")
	}
	if pause, err := time.ParseDuration(sec[1]); err != nil || starts*pause <= within {
		t.Errorf("systemd gives up: RestartSec is %v, %v", pause, err)
	}
	prevent := "RestartPreventExitStatus=" // not that of hint.Usage: Go crashes with it
	for _, kind := range []hint.Kind{hint.Privilege, hint.Unsupported} {
		prevent += fmt.Sprintf("%d ", hint.ExitCode(hint.New(kind, "", "")))
	}
	for _, line := range []string{"Restart=on-failure", strings.TrimSpace(prevent)} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit has no line %s", line)
		}
	}
}

// The service has the capabilities that tracing needs and no others, and systemd rates its exposure below 3 of 10.
func TestUnitIsHardened(t *testing.T) {
	unit := readFile(t, unitFile)
	list, _, _ := strings.Cut(kernel.FileCapabilities, "=")
	want := strings.ToUpper(strings.ReplaceAll(list, ",", " "))
	for _, set := range []string{"AmbientCapabilities", "CapabilityBoundingSet"} {
		if !strings.Contains(unit, "\n"+set+"="+want+"\n") {
			t.Errorf("the unit has no line %s=%s", set, want)
		}
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skipf("systemd rates no unit: %v", err)
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold=29", unitFile).CombinedOutput()
	if err != nil {
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		t.Errorf("systemd-analyze security: %v: %s", err, lines[len(lines)-1])
	}
}
