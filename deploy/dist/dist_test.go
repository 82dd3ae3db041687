package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// head is the commit that the tests build.
var head string

// releaseDir, in the environment, is the directory of a release that was built before: in a microVM.
const releaseDir = "CLOSETRACE_RELEASE"

// release builds that commit once for all tests and returns the directory.
var release = sync.OnceValues(func() (dir string, err error) {
	if dir = os.Getenv(releaseDir); dir != "" {
		return dir, nil
	}
	if dir, err = os.MkdirTemp("", "closetrace-release-"); err != nil {
		return "", err
	}
	if head, err = git(filepath.Join("..", ".."), "rev-parse", "HEAD"); err != nil {
		return dir, err
	}
	return dir, run([]string{"-commit", head, "-o", dir}, io.Discard, os.Stderr)
})

func TestMain(m *testing.M) {
	if task := os.Getenv(containerTask); task != "" {
		runInContainer(task)
	}
	code := m.Run()
	if dir, err := release(); err == nil && !inGuest() {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// released returns the directory of the release.
func released(t *testing.T) string {
	t.Helper()
	dir, err := release()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// one returns the file of a release that matches a pattern.
func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(released(t), pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q, %v", pattern, found, err)
	}
	return found[0]
}

// ownDeb returns the Debian package for the machine that the test runs on.
func ownDeb(t *testing.T) string {
	t.Helper()
	return one(t, "*_"+runtime.GOARCH+".deb")
}

// A second build of the same commit, elsewhere and by a user with other settings, has the same bytes.
func TestTwiceTheSame(t *testing.T) {
	first := released(t)
	elsewhere := filepath.Join(t.TempDir(), "a-longer-path")
	if err := os.MkdirAll(elsewhere, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"TMPDIR": elsewhere, "TZ": "Asia/Kathmandu", "LANG": "de_DE.UTF-8", "SOURCE_DATE_EPOCH": "1", "GOFLAGS": "-p=1",
		"GOAMD64": "v3", "LDFLAGS": "-X main.x=y", "DESTDIR": "/nowhere", "CGO_ENABLED": "1",
	} {
		t.Setenv(name, value)
	}
	second := filepath.Join(elsewhere, "out")
	if err := run([]string{"-commit", head, "-o", second}, io.Discard, os.Stderr); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(first)
	if err != nil || len(files) != 2*5+2 {
		t.Errorf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		a, errA := os.ReadFile(filepath.Join(first, file.Name()))
		b, errB := os.ReadFile(filepath.Join(second, file.Name()))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs: %d and %d bytes, %v, %v", file.Name(), len(a), len(b), errA, errB)
		}
	}
	check := exec.Command("sha256sum", "--check", "--strict", "--quiet", sumsFile)
	check.Dir = second
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	if sums, err := os.ReadFile(filepath.Join(second, sumsFile)); err != nil || bytes.Contains(sums, []byte("~")) {
		t.Errorf("GitHub would store a file under another name: %v\n%s", err, sums)
	}
}

// All packages of an architecture have the same files with the same content, except for what only Debian has, and
// where its zsh looks for completions.
func TestPackagesAgree(t *testing.T) {
	for _, names := range [][3]string{{"amd64", "x86_64", "amd64"}, {"arm64", "aarch64", "arm64"}} {
		archive := unpack(t, one(t, "*_linux_"+names[0]+".tar.gz"), "tar", "-xzf")
		apk := unpack(t, one(t, "*_"+names[1]+".apk"), "tar", "--warning=no-unknown-keyword", "-xzf")
		for _, control := range []string{".PKGINFO", ".post-install", ".pre-deinstall", ".post-deinstall"} {
			delete(apk, control)
		}
		deb := unpack(t, one(t, "*_"+names[2]+".deb"), "dpkg-deb", "-x")
		for path := range deb {
			if path == "usr/share/doc/closetrace/changelog.gz" || path == "usr/share/lintian/overrides/closetrace" {
				delete(deb, path)
			}
			if name, ok := strings.CutPrefix("/"+path, zshDebian); ok {
				deb[zshSite[1:]+name] = deb[path]
				delete(deb, path)
			}
		}
		upgrade := unpack(t, one(t, "*_linux_"+names[0]+".tar.gz"), "tar", "--exclude="+config[1:], "-xzf")
		if _, replaced := upgrade[config[1:]]; replaced || len(upgrade) != len(archive)-1 {
			t.Errorf("an upgrade by the archive replaces the configuration, or leaves out more: %d files", len(upgrade))
		}
		same(t, names[0]+".tar.gz and apk", archive, apk)
		same(t, names[0]+".tar.gz and deb", archive, deb)
		if _, err := exec.LookPath("rpm2cpio"); err != nil {
			t.Fatal(err)
		}
		rpm := unpack(t, one(t, "*."+names[1]+".rpm"), "sh", "-c", `rpm2cpio "$1" | (cd "$3" && cpio -idm --quiet --no-absolute-filenames)`, "sh")
		same(t, names[0]+".tar.gz and rpm", archive, rpm)

		checkProgram(t, archive["usr/bin/closetrace"], names[0])
	}
}

// unpack runs a command that unpacks an archive into a directory, and returns the files.
func unpack(t *testing.T, archive string, command ...string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	args := append(command[1:], archive)
	if command[0] != "dpkg-deb" {
		args = append(args, "-C")
	}
	if out, err := exec.Command(command[0], append(args, dir)...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", command, err, out)
	}
	found, err := filesBelow(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range found {
		data, err := f.content()
		if err != nil {
			t.Fatal(err)
		}
		files[f.path[1:]] = string(data)
	}
	return files
}

func same(t *testing.T, what string, a, b map[string]string) {
	t.Helper()
	if len(a) < 20 {
		t.Errorf("%s: %d files", what, len(a))
	}
	for path := range a {
		if text, ok := b[path]; !ok || text != a[path] {
			t.Errorf("%s: %s is missing or differs", what, path)
		}
	}
	for path := range b {
		if _, ok := a[path]; !ok {
			t.Errorf("%s: %s is only in the second", what, path)
		}
	}
}

// checkProgram checks that a program is a static one for an architecture, which knows its commit.
func checkProgram(t *testing.T, program, arch string) {
	t.Helper()
	info, err := buildinfo.Read(strings.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	for key, want := range map[string]string{
		"GOARCH": arch, "GOOS": "linux", "CGO_ENABLED": "0", "-trimpath": "true", "vcs.revision": head,
		"vcs.modified": "false",
	} {
		if settings[key] != want {
			t.Errorf("%s: %s is %q, want %q", arch, key, settings[key], want)
		}
	}
}

// lintian finds no error in the Debian packages, and nothing to warn of. The overrides in them say why for the rest.
func TestLintian(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		lint := exec.Command("lintian", "--allow-root", "--fail-on=error,warning", one(t, "*_"+arch+".deb"))
		if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", arch, err, out)
		}
	}
}

// The scripts of the packages have no fault that shellcheck knows, and actionlint finds none in the workflows and the
// action that they use.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("../packages/*.sh")
	if err != nil || len(scripts) < 3 {
		t.Fatalf("%q, %v", scripts, err)
	}
	if out, err := exec.Command("shellcheck", append(scripts, "../action/run.sh")...).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
	workflows, err := filepath.Glob("../../.github/workflows/*.yml")
	if err != nil || len(workflows) < 2 {
		t.Fatalf("%q, %v", workflows, err)
	}
	lint := exec.Command("go", append([]string{"tool", "actionlint"}, workflows...)...)
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("actionlint: %v\n%s", err, out)
	}
}

// The image has both platforms, each with nothing but the program, and what its digests say.
func TestImage(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xf", one(t, "*_image.tar"), "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	at, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(at); err != nil {
		t.Error(err)
	}
	outer, err := at.IndexManifest()
	if err != nil || len(outer.Manifests) != 1 {
		t.Fatalf("%+v, %v", outer, err)
	}
	name := outer.Manifests[0].Annotations["io.containerd.image.name"]
	if !strings.HasPrefix(name, "localhost/closetrace:") {
		t.Errorf("its name is %q", name)
	}
	inner, err := at.ImageIndex(outer.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
		image, err := inner.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		layers, err := image.Layers()
		if err != nil || len(layers) != 1 {
			t.Fatalf("%d layers, %v", len(layers), err)
		}
		content, err := layers[0].Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		header, program := onlyFile(t, content)
		if header.Name != "closetrace" || header.Mode != 0o755 {
			t.Errorf("the layer has %s with mode %o", header.Name, header.Mode)
		}
		checkProgram(t, program, m.Platform.Architecture)
	}
	if !slices.Equal(platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("platforms %q", platforms)
	}
}

// onlyFile returns the file of an archive of one.
func onlyFile(t *testing.T, archive io.Reader) (*tar.Header, string) {
	t.Helper()
	r := tar.NewReader(archive)
	header, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if next, err := r.Next(); err != io.EOF {
		t.Errorf("a second file: %+v, %v", next, err)
	}
	return header, string(data)
}

// The list of modules has each module that is in the program, and the same list is in the packages.
func TestModules(t *testing.T) {
	text, err := os.ReadFile(one(t, "*_linux_amd64.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, one(t, "*_linux_amd64.tar.gz"), "tar", "-xzf")
	if files["usr/share/doc/closetrace/sbom.cdx.json"] != string(text) {
		t.Error("the list in the packages is another one")
	}
	info, err := buildinfo.Read(strings.NewReader(files["usr/bin/closetrace"]))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		BomFormat, SpecVersion string
		Components             []struct{ Name, Version, Purl string }
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	if list.BomFormat != "CycloneDX" || len(list.Components) != len(info.Deps)+1 {
		t.Errorf("%s %s with %d components, the program has %d modules",
			list.BomFormat, list.SpecVersion, len(list.Components), len(info.Deps))
	}
	for i, c := range list.Components[1:] {
		if m := info.Deps[i]; c.Name != m.Path || c.Version != m.Version || !strings.HasPrefix(c.Purl, "pkg:golang/"+m.Path) {
			t.Errorf("component %+v, module %s %s", c, m.Path, m.Version)
		}
	}
}

// A page of the manual in the package can be read.
func TestManual(t *testing.T) {
	files := unpack(t, one(t, "*_linux_amd64.tar.gz"), "tar", "-xzf")
	r, err := gzip.NewReader(strings.NewReader(files["usr/share/man/man8/closetrace-serve.8.gz"]))
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(r)
	if err != nil || !bytes.Contains(page, []byte(".SH SYNOPSIS")) || !bytes.Contains(page, []byte("sd_notify")) {
		t.Errorf("%v\n%.300s", err, page)
	}
}
