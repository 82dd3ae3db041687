package fleet

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The images of the node. It has no registry: they are imported.
const (
	closetraceImage = "closetrace.test/closetrace"
	shopImage       = "closetrace.test/shop"
	imageTag        = "1"
)

// seccompProfile is the one of closetrace.
const seccompProfile = "../../deploy/seccomp/closetrace.json"

// startNode starts containerd with the images, and the kubelet.
func (c *cluster) startNode(t *testing.T) {
	t.Helper()
	for _, program := range []string{"containerd", "runc", "/usr/lib/cni/ptp"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v\nhint: test/deps.sh fleet", err)
		}
	}
	c.write(t, "cni/10-test.conflist", `{"cniVersion": "0.4.0", "name": "test", "plugins": [{"type": "ptp",
		"ipam": {"type": "host-local", "subnet": "`+podSubnet+`", "routes": [{"dst": "0.0.0.0/0"}],
		"dataDir": "`+c.path("addresses")+`"}}]}`)
	c.start(t, "containerd", "--config", c.write(t, "containerd.toml", c.containerdConfig()))
	eventually(t, "containerd listens", func() error {
		conn, err := net.Dial("unix", c.path("containerd.sock"))
		if err == nil {
			conn.Close()
		}
		return err
	})
	c.importImage(t, closetraceImage, "/closetrace", map[string]string{"closetrace": closetrace(t)})
	c.importImage(t, shopImage, "/"+pauseName, map[string]string{
		pauseName: staticSelf(t), serverName: "", clientName: "", // one program by three names
	})
	if !c.machine { // whose systemd makes them
		for _, hierarchy := range hierarchies(t) {
			if err := os.Mkdir(hierarchy+c.cgroups, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
		}
	}
	// Docs say to copy the profile to this directory.
	profile, err := os.ReadFile(seccompProfile)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, "kubelet/seccomp/closetrace.json", string(profile))
	if err := os.Mkdir(c.path("manifests"), 0o755); err != nil {
		t.Fatal(err)
	}
	kubelet := []string{
		c.program("kubelet"), "--config", c.write(t, "kubelet.yaml", c.kubeletConfig()), "--root-dir", c.path("kubelet"),
		"--cert-dir", c.path("kubelet-pki"), "--hostname-override", nodeName, "--node-ip", nodeAddress, "--v=1",
	}
	if !c.machine {
		kubelet = append(kubelet, "--kubeconfig", c.config(t, "node"))
	}
	c.start(t, kubelet...)
}

// containerdConfig is Debian's, with files of its own. The score for running out of memory is not lowered: that takes
// CAP_SYS_RESOURCE, which a machine without it does not give to containers either. A machine of its own has layers of
// overlayfs, and systemd makes the cgroups of its containers, as nodes have it.
func (c *cluster) containerdConfig() string {
	snapshotter := "native"
	if c.machine {
		snapshotter = "overlayfs"
	}
	return fmt.Sprintf(`version = 2
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
  address = "%[1]s/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "%[1]s/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "%[2]s:%[3]s"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "%[1]s/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "%[4]s"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = %[5]t
`, c.dir, shopImage, imageTag, snapshotter, c.machine)
}

// kubeletConfig runs pods on machines with cgroups of both versions, too, and evicts none of a full disk. On a machine
// of its own there must be version 2 alone.
func (c *cluster) kubeletConfig() string {
	cgroups := "cgroupDriver: cgroupfs\ncgroupRoot: " + c.cgroups + "\nfailCgroupV1: false"
	if c.machine {
		cgroups = "cgroupDriver: systemd\nfailCgroupV1: true"
	}
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %[2]s
containerRuntimeEndpoint: unix://%[1]s/containerd.sock
staticPodPath: %[1]s/manifests
podLogsDir: %[1]s/pod-logs
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
%[3]s
failSwapOn: false
oomScoreAdj: 0
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%"}
fileCheckFrequency: 1s
resolvConf: ""
`, c.dir, nodeAddress, cgroups)
}

// importImage gives containerd an image of the files, by name: each is a path, or "" for a link to the first.
func (c *cluster) importImage(t *testing.T, name, entrypoint string, files map[string]string) {
	t.Helper()
	archive := c.write(t, filepath.Base(name)+".tar", string(imageArchive(t, name, entrypoint, files)))
	output(t, "", "ctr", "--address", c.path("containerd.sock"), "--namespace", "k8s.io", "images", "import", archive)
}

// imageArchive returns an image of one layer as docker save writes it. The image of make dist has the same program.
func imageArchive(t *testing.T, name, entrypoint string, files map[string]string) []byte {
	t.Helper()
	layer := map[string][]byte{}
	links := map[string]string{}
	for at, from := range files {
		if from == "" {
			links[at] = strings.TrimPrefix(entrypoint, "/")
			continue
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		layer[at] = text
	}
	text := archive(t, layer, links)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Entrypoint": []string{entrypoint}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(text))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]map[string]any{
		{"Config": "config.json", "RepoTags": []string{name + ":" + imageTag}, "Layers": []string{"layer.tar"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return archive(t, map[string][]byte{"config.json": config, "layer.tar": text, "manifest.json": manifest}, nil)
}

func archive(t *testing.T, files map[string][]byte, links map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, text := range files {
		header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(text))}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range links {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: to}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// staticSelf returns this test's program, which runs in an image without libraries.
func staticSelf(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if file.Section(".interp") != nil {
		t.Fatal("the test's program needs libraries, so it cannot run in a pod\nhint: CGO_ENABLED=0, as make test-fleet")
	}
	return self
}
