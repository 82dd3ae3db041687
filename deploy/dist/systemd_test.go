package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Debian's systemd, as process 1 of a container, runs the service of the package: it is installed, started, reloaded,
// upgraded, removed and purged, as testdata/packages.sh says.
func TestPackageUnderSystemd(t *testing.T) {
	asRoot(t)
	root := debianRoot(t)
	packages := filepath.Join(root, "packages")
	succeed(t, "mkdir", packages)
	succeed(t, "cp", "testdata/packages.sh", packages)
	units := filepath.Join(root, "etc/systemd/system")
	wants := filepath.Join(units, "multi-user.target.wants")
	succeed(t, "cp", "testdata/packages-test.service", units)
	succeed(t, "mkdir", "-p", wants)
	succeed(t, "ln", "-s", "../packages-test.service", wants)
	succeed(t, "ln", "-s", "/lib/systemd/system/multi-user.target", filepath.Join(units, "default.target"))

	deb := ownDeb(t)
	succeed(t, "cp", deb, filepath.Join(packages, "new.deb"))
	older(t, deb, filepath.Join(packages, "old.deb"))

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "testdata/boot.sh", root, ownCgroup(t)).CombinedOutput()
	result, _ := os.ReadFile(filepath.Join(packages, "result"))
	if !strings.Contains(string(result), "\nPASSED\n") {
		t.Errorf("%v\n%s\n%s", err, out, result)
	}
}

// debianRoot returns a directory with a Debian that has systemd and dpkg. Its archive is made once, by mmdebstrap.
func debianRoot(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(cache, "closetrace", "packages", "systemd.tar")
	if _, err := os.Stat(archive); err != nil {
		sources := succeed(t, "apt-get", "indextargets", "--format", "deb $(REPO_URI) $(CODENAME) $(COMPONENT)",
			"Created-By: Packages", "Origin: Debian", "Label: Debian")
		source, _, _ := strings.Cut(sources, "\n")
		words := strings.Fields(source)
		if len(words) != 4 {
			t.Fatalf("apt knows of no Debian archive: %q", source)
		}
		succeed(t, "mkdir", "-p", filepath.Dir(archive))
		succeed(t, "mmdebstrap", "--mode=root", "--variant=essential", "--include=systemd-sysv,init-system-helpers",
			"--dpkgopt=path-exclude=/usr/share/locale/*", words[2], archive+".part.tar", source)
		succeed(t, "mv", archive+".part.tar", archive)
	}
	root := t.TempDir()
	succeed(t, "tar", "-xpf", archive, "-C", root)
	return root
}

// older writes a package that differs from another by its version, which is lower.
func older(t *testing.T, deb, to string) {
	t.Helper()
	dir := t.TempDir()
	succeed(t, "dpkg-deb", "--raw-extract", deb, dir)
	control := filepath.Join(dir, "DEBIAN/control")
	text, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^Version: .*$`).ReplaceAll(text, []byte("Version: 0.0.0~0"))
	if err := os.WriteFile(control, text, 0o644); err != nil {
		t.Fatal(err)
	}
	succeed(t, "dpkg-deb", "--root-owner-group", "-Znone", "--build", dir, to)
}

// ownCgroup makes a cgroup (v2) for the test.
func ownCgroup(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	at := regexp.MustCompile(`(?m)^\S+ (\S+) cgroup2 `).FindSubmatch(mounts)
	if at == nil {
		t.Skip("systemd needs cgroup v2, which is not mounted")
	}
	dir := filepath.Join(string(at[1]), fmt.Sprintf("closetrace-systemd-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// What systemd made in it is removed from below.
		_ = exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").Run()
	})
	return dir
}
