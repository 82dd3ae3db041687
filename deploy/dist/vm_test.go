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
	inMicroVM(t, "6.12", "amd64", "TestPackageInGuest", "TestPodman", "TestContainerd", "TestDocker", "TestNames")
}

// On an emulated arm64, the image of that architecture does the same. With two other guests on this machine's CPUs,
// closetrace took more than two minutes to attach there: systemd does not wait that long for a service, so that the
// package is not tested.
func TestMicroVMArm64(t *testing.T) {
	inMicroVM(t, "6.12-arm64", "arm64", "TestPodman", "TestContainerd", "TestDocker")
}

// inMicroVM runs tests of this package on a kernel of test/kernels.txt, in a Debian with container engines.
func inMicroVM(t *testing.T, kernel, arch string, guestTests ...string) {
	asRoot(t) // the Debian is made as root
	program := filepath.Join(t.TempDir(), "dist.test")
	build := exec.Command("go", "test", "-c", "-ldflags", "-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	// The paths are those of the repository, as tests look for files beside them.
	const in = "/closetrace/deploy/dist/"
	args := []string{
		"-C", filepath.Join("..", ".."), "run", "./test/vm", "-v", "-kernel", kernel, "-timeout", "40m",
		"-debian", "dbus,podman,runc,containerd,docker.io,docker-cli", "-file", program + ":" + in + "dist.test",
	}
	for _, path := range []string{"testdata/packages.sh", profile, one(t, "*_"+arch+".deb"), one(t, "*_image.tar")} {
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
		"-test.timeout 39m -test.run '^("+strings.Join(guestTests, "|")+")$'")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Minute)
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
