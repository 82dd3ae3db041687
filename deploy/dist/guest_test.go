package main

import (
	"archive/tar"
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// These tests run in the microVM that TestMicroVM boots: their systemd is process 1 of a machine of its own, with
// cgroup v2 alone, and their engines are those of its Debian, at the sockets where closetrace looks for them.

func inGuest() bool { return os.Getenv(releaseDir) != "" }

func onlyInGuest(t *testing.T) {
	t.Helper()
	if !inGuest() {
		t.Skip("TestMicroVM runs it in a machine of its own, whose services it changes")
	}
}

// The systemd of the machine runs the service of the package, as TestPackageUnderSystemd does, and closetrace uses
// fentry.
func TestPackageInGuest(t *testing.T) {
	onlyInGuest(t)
	packages := t.TempDir()
	deb := ownDeb(t)
	succeed(t, "cp", "testdata/packages.sh", packages)
	succeed(t, "cp", deb, filepath.Join(packages, "new.deb"))
	older(t, deb, filepath.Join(packages, "old.deb"))
	out, err := exec.Command("bash", filepath.Join(packages, "packages.sh")).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("\nPASSED\n")) {
		log, _ := exec.Command("journalctl", "--no-pager", "--unit", "closetrace").CombinedOutput()
		t.Fatalf("%v\n%s\n%s", err, out, log)
	}
	if !bytes.Contains(out, []byte(`closetrace_build_info{attach="fentry"`)) {
		t.Errorf("it is not attached by fentry:\n%s", out)
	}
}

// The image traces in Docker with the seccomp profile of the packages and with Docker's own. It is an OCI archive,
// which Docker loads if it keeps its images in containerd, as it does from 29 on.
func TestDocker(t *testing.T) {
	onlyInGuest(t)
	startDocker(t)
	image := loaded(t, "docker", one(t, "*_image.tar"))
	args := []string{
		"docker", "run", "--rm", "--read-only", "--network=host", "--pid=host", "--cgroupns=host",
		"--security-opt", "no-new-privileges", "--cap-drop=ALL",
	}
	for _, c := range capabilities {
		args = append(args, "--cap-add="+c)
	}
	own, err := filepath.Abs(profile)
	if err != nil {
		t.Fatal(err)
	}
	traces(t, append(args, "--security-opt", "seccomp="+own, image))
	tracesUnlessDenied(t, append(args, image))
}

// startDocker starts the Docker of the machine without a network: its containers use that of the host.
func startDocker(t *testing.T) {
	t.Helper()
	startMachineContainerd(t)
	settings := `{"iptables": false, "ip6tables": false, "bridge": "none", "features": {"containerd-snapshotter": true}}`
	configure(t, "/etc/docker/daemon.json", settings)
	start(t, "docker")
}

// startMachineContainerd starts the containerd of the machine with its interface for Kubernetes.
func startMachineContainerd(t *testing.T) {
	t.Helper()
	configure(t, "/etc/containerd/config.toml", `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "`+pauseImage+`"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
`)
	start(t, "containerd")
}

func configure(t *testing.T, file, text string) {
	t.Helper()
	succeed(t, "mkdir", "-p", filepath.Dir(file))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// start starts a service of the machine.
func start(t *testing.T, service string) {
	t.Helper()
	if out, err := exec.Command("systemctl", "start", service).CombinedOutput(); err != nil {
		log, _ := exec.Command("journalctl", "--no-pager", "--lines", "40", "--unit", service).CombinedOutput()
		t.Fatalf("%s: %v\n%s%s", service, err, out, log)
	}
}

// The images of the containers that have names. Both hold this program.
const (
	resetsImage = "closetrace.test/resets:1"
	pauseImage  = "closetrace.test/pause:1"
)

// containerTask, in the environment, says that this program runs in one of these containers, and what it does there.
const containerTask = "CLOSETRACE_TEST_TASK"

// runInContainer ends with the program.
func runInContainer(task string) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	for task == "resets" && err == nil && len(stop) == 0 {
		err = leaveUnread(listener)
		time.Sleep(time.Second)
	}
	if err != nil {
		panic(err)
	}
	<-stop
	os.Exit(0)
}

// writeTestImages writes an archive with both images.
func writeTestImages(t *testing.T) (archive string) {
	t.Helper()
	images := map[name.Tag]v1.Image{}
	for text, task := range map[string]string{resetsImage: "resets", pauseImage: "pause"} {
		tag, err := name.NewTag(text)
		if err != nil {
			t.Fatal(err)
		}
		images[tag] = testImage(t, task)
	}
	archive = filepath.Join(t.TempDir(), "images.tar")
	if err := tarball.MultiWriteToFile(archive, images); err != nil {
		t.Fatal(err)
	}
	return archive
}

// testImage returns an image with this program.
func testImage(t *testing.T, task string) v1.Image {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	if err := w.WriteHeader(&tar.Header{Name: "program", Mode: 0o755, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	}, tarball.WithCompressionLevel(1))
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	configuration, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	configuration.OS, configuration.Architecture = "linux", runtime.GOARCH
	configuration.Config = v1.Config{Entrypoint: []string{"/program"}, Env: []string{containerTask + "=" + task}}
	if image, err = mutate.ConfigFile(image, configuration); err != nil {
		t.Fatal(err)
	}
	return image
}

// loaded loads an archive of one image and returns the name or the id that the engine prints.
func loaded(t *testing.T, engine, archive string) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(succeed(t, engine, "load", "--input", archive)), "\n")
	_, image, ok := strings.Cut(lines[len(lines)-1], ": ")
	if !ok {
		t.Fatalf("%s load: %q", engine, lines)
	}
	return image
}
