package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// In the microVM, which has a Debian 13 with a kernel that allows fentry, the package and the image do what they do on
// this machine, with a newer systemd and newer engines, and engines give their containers names.
func TestMicroVM(t *testing.T) {
	asRoot(t) // the Debian is made as root
	guestTests := []string{"TestPackageInGuest", "TestPodman", "TestContainerd", "TestDocker", "TestNames"}
	program := filepath.Join(t.TempDir(), "dist.test")
	build := exec.Command("go", "test", "-c", "-ldflags", "-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	// The paths are those of the repository, as tests look for files beside them.
	const in = "/closetrace/deploy/dist/"
	args := []string{
		"-C", filepath.Join("..", ".."), "run", "./test/vm", "-v", "-kernel", "6.12", "-timeout", "25m",
		"-debian", "dbus,podman,runc,containerd,docker.io,docker-cli",
		"-file", program + ":" + in + "dist.test",
	}
	for _, path := range []string{"testdata/packages.sh", profile, one(t, "*_amd64.deb"), one(t, "*_image.tar")} {
		from, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(in, path)
		if filepath.IsAbs(path) {
			to = filepath.Join("/closetrace/release", filepath.Base(path))
		}
		args = append(args, "-file", from+":"+to)
	}
	args = append(args, "--", "/bin/sh", "-c", "cd "+in+" && "+releaseDir+"=/closetrace/release exec ./dist.test -test.v "+
		"-test.timeout 24m -test.run '^("+strings.Join(guestTests, "|")+")$'")
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Minute)
	defer cancel()
	boot := exec.CommandContext(ctx, "go", args...)
	var out bytes.Buffer
	boot.Stdout, boot.Stderr = io.MultiWriter(&out, os.Stdout), os.Stderr
	if err := boot.Run(); err != nil {
		t.Error(err)
	}
	for _, name := range guestTests {
		if !strings.Contains(out.String(), "--- PASS: "+name+" ") {
			t.Errorf("%s has not passed in the microVM", name)
		}
	}
}
