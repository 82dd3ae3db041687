package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// named is a container as closetrace shows it.
type named struct{ Runtime, Name, Pod, Namespace, Image string }

// closetrace shows the names that podman, Docker and containerd (by its interface for Kubernetes) give, in the endings
// of the service, and finds a container by its name.
func TestNames(t *testing.T) {
	onlyInGuest(t)
	archive := writeTestImages(t)
	startDocker(t)
	startPodmanAPI(t)
	for _, engine := range []string{"podman", "docker"} {
		succeed(t, engine, "load", "--input", archive)
		succeed(t, engine, "run", "--detach", "--name", engine+"-web", "--network=host", "--cap-drop=ALL", resetsImage)
		t.Cleanup(func() { succeed(t, engine, "rm", "--force", engine+"-web") })
	}
	succeed(t, "ctr", "--namespace", "k8s.io", "images", "import", archive)
	startPod(t)
	t.Log("the containers run")

	want := []named{
		{Runtime: "containerd", Name: "web", Pod: "cart-0", Namespace: "shop", Image: resetsImage},
		{Runtime: "docker", Name: "docker-web", Image: resetsImage},
		{Runtime: "podman", Name: "podman-web", Image: resetsImage},
	}
	program := releasedProgram(t)
	served(t, program, want)
	for _, c := range want {
		filter := strings.TrimLeft(c.Namespace+"/"+c.Pod+"/"+c.Name, "/")
		// The answer about the first ending may be late.
		out := succeed(t, program, "--container-names", "--container", filter, "--only", "close.rst.unread", "--count", "20",
			"-o", "json")
		if !slices.Contains(containersOf(t, out), c) {
			t.Errorf("%s: no %+v in\n%s", filter, c, out)
		}
	}
}

// containersOf returns the containers of endings, one a line. All are of the same one.
func containersOf(t *testing.T, lines string) (containers []named) {
	t.Helper()
	ids := map[string]bool{}
	for line := range strings.Lines(lines) {
		var e struct{ Container struct{ ID string } }
		var n ending
		if err := errors.Join(json.Unmarshal([]byte(line), &e), json.Unmarshal([]byte(line), &n)); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		ids[e.Container.ID] = true
		containers = append(containers, n.Container)
	}
	if len(ids) != 1 {
		t.Errorf("containers %v", ids)
	}
	return containers
}

// ending has what is looked at in one.
type ending struct{ Container named }

// releasedProgram unpacks the deb and returns its program.
func releasedProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	succeed(t, "dpkg-deb", "-x", ownDeb(t), dir)
	return filepath.Join(dir, "usr/bin/closetrace")
}

// startPodmanAPI starts podman's API at its usual socket, for the time of the test.
func startPodmanAPI(t *testing.T) {
	t.Helper()
	const socket = "/run/podman/podman.sock"
	succeed(t, "mkdir", "-p", filepath.Dir(socket))
	service := exec.Command("podman", "system", "service", "--time=0", "unix://"+socket)
	service.Stderr = os.Stderr
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = service.Process.Kill()
		_ = service.Wait()
	})
	awaitSocket(t, socket)
}

// startPod starts a pod of Kubernetes with one container, as the kubelet would.
func startPod(t *testing.T) {
	t.Helper()
	const socket = "/run/containerd/containerd.sock"
	awaitSocket(t, socket)
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	awaitImages(ctx, t, cri.NewImageServiceClient(connection))
	runtime := cri.NewRuntimeServiceClient(connection)
	labels := map[string]string{
		"io.kubernetes.pod.name": "cart-0", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.container.name": "web",
	}
	pod := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: "cart-0", Namespace: "shop", Uid: "0f4b2c3d-0000-4000-8000-000000000001"},
		Labels:   labels,
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent: "kubepods.slice",
			SecurityContext: &cri.LinuxSandboxSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
			},
		},
	}
	sandbox, err := runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: pod})
	if err != nil {
		t.Fatalf("pod: %v", err)
	}
	container, err := runtime.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: sandbox.PodSandboxId, SandboxConfig: pod,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "web"}, Image: &cri.ImageSpec{Image: resetsImage}, Labels: labels,
			Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
				NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE},
			}},
		},
	})
	if err != nil {
		t.Fatalf("container: %v", err)
	}
	if _, err := runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: container.ContainerId}); err != nil {
		t.Fatalf("start: %v", err)
	}
}

// awaitImages waits until CRI has the images that were loaded through containerd's own interface.
func awaitImages(ctx context.Context, t *testing.T, images cri.ImageServiceClient) {
	t.Helper()
	for _, image := range []string{pauseImage, resetsImage} {
		request := &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: image}}
		for {
			status, err := images.ImageStatus(ctx, request)
			if err != nil {
				t.Fatalf("%s: %v", image, err)
			}
			if status.Image != nil {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
}

// served runs the service until /debug/last has endings of all containers.
func served(t *testing.T, program string, want []named) {
	t.Helper()
	const address = "127.0.0.1:9741"
	service := exec.Command(program, "serve", "--container-names", "--listen", address)
	var stderr strings.Builder
	service.Stderr = &stderr
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = service.Wait() }()
	defer func() { _ = service.Process.Signal(os.Interrupt) }()
	var seen []named
	for deadline := time.Now().Add(6 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Second) {
		now := lastContainers("http://" + address + "/debug/last")
		if !slices.Equal(now, seen) {
			t.Logf("seen %+v", now)
		}
		seen = now
		if !slices.ContainsFunc(want, func(c named) bool { return !slices.Contains(seen, c) }) {
			return
		}
	}
	t.Errorf("seen %+v, want %+v\n%s", seen, want, stderr.String())
}

// lastContainers returns the containers of the last endings. An answer that is none has none.
func lastContainers(url string) (containers []named) {
	response, err := http.Get(url)
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil
	}
	var last struct{ Endings []ending }
	if err := json.Unmarshal(text, &last); err != nil {
		return []named{{Name: fmt.Sprint(err)}}
	}
	for _, e := range last.Endings {
		if !slices.Contains(containers, e.Container) {
			containers = append(containers, e.Container)
		}
	}
	return containers
}
