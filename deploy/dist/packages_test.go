package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// GitHub stores a file of a release under its name, which SHA256SUMS has, only if the name has no tilde. The version
// in the package of a release candidate has one.
func TestNamesOfPackages(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"v1.2.3", "v1.2.3-rc.1", "v1.2.4-0.20261129111600-c386066abcde"} {
		v, err := parseVersion(text)
		if err != nil {
			t.Fatal(err)
		}
		b := build{
			arch: "amd64", source: filepath.Join("..", ".."), version: v, time: time.Unix(1e9, 0),
			files: []file{{path: "/usr/share/doc/closetrace/copyright", mode: 0o644, data: []byte("x")}},
		}
		for _, write := range []func(string, build) (string, error){writeDeb, writeRPM, writeAPK, writeArchive} {
			name, err := write(dir, b)
			if _, missing := os.Stat(filepath.Join(dir, name)); err != nil || missing != nil {
				t.Fatalf("%s: %s: %v, %v", text, name, err, missing)
			}
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
				t.Errorf("GitHub stores %s under another name", name)
			}
			if !strings.HasSuffix(name, ".deb") {
				continue
			}
			out, err := exec.Command("dpkg-deb", "--field", filepath.Join(dir, name), "Version").CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != v.tilde() {
				t.Errorf("%s: dpkg-deb: %s, %v, want %s", name, out, err, v.tilde())
			}
		}
	}
}
