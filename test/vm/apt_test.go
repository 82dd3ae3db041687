package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/test/debian"
)

func TestParsePackage(t *testing.T) {
	const text = `Package: linux-image-cloud-amd64
Version: 6.19.3-1
Depends: kmod, linux-base (>= 4.3~), linux-base-6.19.3-cloud-amd64:amd64 (= 6.19.3-1), linux-binary-6.19.3-cloud-amd64 (= 6.19.3-1) | linux-binary-unsigned-6.19.3-cloud-amd64 (= 6.19.3-1), linux-modules-6.19.3-cloud-amd64
Description: Linux

Package: linux-image-cloud-amd64
Version: 1.0
`
	got, err := parsePackage(text)
	want := debPackage{"linux-image-cloud-amd64", "6.19.3-1", []dependency{
		{"linux-base-6.19.3-cloud-amd64", "6.19.3-1"}, {"linux-binary-6.19.3-cloud-amd64", "6.19.3-1"},
		{"linux-modules-6.19.3-cloud-amd64", ""},
	}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := parsePackage("Version: 1\n"); err == nil {
		t.Error("no error for a stanza without a name")
	}
}

// A kernel in the cache is used without apt or the network while it is recent, and also when it is old and the
// network fails; but not when a refresh was asked for.
func TestCachedKernel(t *testing.T) {
	t.Setenv("PATH", "") // no apt
	t.Setenv(debian.MirrorEnv, "file:///nowhere")
	var notices []string
	s := &store{dir: t.TempDir(), notice: func(format string, _ ...any) { notices = append(notices, format) }}
	k := kernel{name: "6.1", arch: "amd64", suites: []string{"bookworm"}, pkg: "linux-image-cloud-amd64"}
	if _, err := s.image(t.Context(), k); err == nil {
		t.Fatal("no error for a kernel that is nowhere")
	}
	writeTree(t, s.kernelDir(k), map[string]string{
		"packages": "p=1\n", "boot/vmlinuz-6.1.0-1": "", "lib/modules/6.1.0-1/modules.builtin": "",
	})
	if got, err := s.image(t.Context(), k); err != nil || got.release != "6.1.0-1" || len(notices) > 0 {
		t.Errorf("fresh: %+v, %v, notices %q", got, err, notices)
	}
	age(t, s.stamp(k), 25*time.Hour)
	if got, err := s.image(t.Context(), k); err != nil || got.release != "6.1.0-1" || len(notices) != 1 {
		t.Errorf("old, and no network: %+v, %v, notices %q", got, err, notices)
	}
	s.refresh = true
	if _, err := s.image(t.Context(), k); err == nil || !strings.HasPrefix(err.Error(), "kernel 6.1: ") {
		t.Errorf("refresh, and no network: %v", err)
	}
}

// Each list of packages has a root of its own, which is used again without mmdebstrap.
func TestCachedRoot(t *testing.T) {
	t.Setenv("PATH", "") // no mmdebstrap
	s := &store{dir: t.TempDir(), notice: t.Logf}
	k := kernel{name: "6.12", arch: "amd64", suites: []string{"trixie"}}
	paths := map[string]bool{}
	for _, packages := range [][]string{{"dbus", "podman"}, {"dbus"}} {
		if _, err := s.root(t.Context(), k, packages); err == nil {
			t.Fatalf("%v: no error for a root that cannot be made", packages)
		}
	}
	for _, list := range []string{"trixie\ndbus\npodman\n", "trixie\ndbus\n"} {
		sum := sha256.Sum256([]byte(list))
		path := fmt.Sprintf("roots/6.12-amd64-%x.ext4", sum[:4])
		writeTree(t, s.dir, map[string]string{path: "", path + ".packages": list})
	}
	for _, packages := range [][]string{{"dbus", "podman"}, {"dbus"}} {
		path, err := s.root(t.Context(), k, packages)
		if err != nil {
			t.Fatalf("%v: %v", packages, err)
		}
		paths[path] = true
	}
	if len(paths) != 2 {
		t.Errorf("two lists have the roots %v", paths)
	}
}

func TestOpenImage(t *testing.T) {
	for _, c := range []struct{ vmlinuz, modules string }{
		{"boot/vmlinuz-6.1", "lib/modules/6.1"},
		{"boot/vmlinuz-6.1", "usr/lib/modules/6.1"},
		{"usr/lib/modules/6.1/vmlinuz", "usr/lib/modules/6.1"},
	} {
		root := t.TempDir()
		writeTree(t, root, map[string]string{c.vmlinuz: "", c.modules + "/modules.builtin": ""})
		got, err := openImage(root)
		if want := (image{"6.1", filepath.Join(root, c.vmlinuz), filepath.Join(root, c.modules)}); err != nil || got != want {
			t.Errorf("%s: %+v, %v", c.vmlinuz, got, err)
		}
	}
	root := t.TempDir()
	writeTree(t, root, map[string]string{"boot/vmlinuz-6.2": "", "lib/modules/6.1/modules.builtin": ""})
	if got, err := openImage(root); err == nil {
		t.Errorf("a kernel with another's modules: %+v", got)
	}
}

func TestSeries(t *testing.T) {
	for _, c := range []struct {
		name, release string
		want          bool
	}{
		{"6.1", "6.1.0-56-cloud-amd64", true},
		{"6.1", "6.12.117+deb13-cloud-amd64", false},
		{"7.3", "7.3-cloud-amd64", true},
		{"6.12-arm64", "6.12.117+deb13-cloud-arm64", true},
		{"7.2", "7.3-cloud-amd64", false},
		{"newest", "7.3-cloud-amd64", true},
	} {
		if got := (image{release: c.release}).series(c.name); got != c.want {
			t.Errorf("%s is of %s: %t", c.release, c.name, got)
		}
	}
}

// aptWith returns an apt for whose apt-cache a script stands in.
func aptWith(t *testing.T, script string) apt {
	t.Helper()
	bin := t.TempDir()
	writeTree(t, bin, map[string]string{"apt-cache": script})
	if err := os.Chmod(filepath.Join(bin, "apt-cache"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return apt{debian.APT{Dir: t.TempDir(), Arch: "amd64"}}
}

// The base of an older kernel may be gone from a mirror, and its image still there; nothing else may be missing.
func TestMissingBase(t *testing.T) {
	a := aptWith(t, `#!/bin/sh
case "$*" in
*linux-image-old) printf 'Package: linux-image-old\nVersion: 1\nDepends: linux-base-old (= 1)\n' ;;
*linux-image-new) printf 'Package: linux-image-new\nVersion: 2\nDepends: linux-base-new, linux-binary-new\n' ;;
esac
`)
	got, err := a.packages(t.Context(), "linux-image-old")
	if err != nil || len(got) != 1 || got[0].name != "linux-image-old" {
		t.Errorf("no base: %v, %v", got, err)
	}
	if got, err := a.packages(t.Context(), "linux-image-new"); !errors.Is(err, errNoPackage) || hint.Of(err) == "" {
		t.Errorf("no binary: %v, %v", got, err)
	}
}

// A name with a * is the newest package that matches, as dpkg compares versions.
func TestNewest(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("dpkg compares the versions: ", err)
	}
	a := aptWith(t, `#!/bin/sh
case "$*" in
*pkgnames*) echo linux-image-6.18.9-cloud-amd64 linux-image-6.18.15-cloud-amd64 linux-image-6.18.15-amd64 ;;
*" show "*cloud*6.18.15-cloud*) printf 'Package: linux-image-6.18.9-cloud-amd64\nVersion: 6.18.9-1\n\nPackage: linux-image-6.18.15-cloud-amd64\nVersion: 6.18.15-1\n\n' ;;
*) exit 1 ;;
esac
`)
	if got, err := a.newest(t.Context(), "linux-image-6.18.*-cloud-amd64"); err != nil ||
		got.name != "linux-image-6.18.15-cloud-amd64" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := a.newest(t.Context(), "linux-image-6.18.*-rt-amd64"); err == nil || hint.Of(err) == "" {
		t.Errorf("none fits: error %v", err)
	}
}
