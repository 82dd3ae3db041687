package fleet

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A cluster is a real Kubernetes cluster of one node: etcd, the API server, the controllers, the scheduler, the kubelet
// and containerd. They run in a network namespace of their own, at the ports that they have by default. Or it is only
// the node, with the kubelet and containerd, and the node is the whole machine.
type cluster struct {
	dir         string
	programs    string   // the directory of those of Kubernetes
	machine     bool     // the node is the whole machine, without an API server
	cgroups     string   // that of the pods
	kubeconfig  string   // of an administrator
	environment []string // of the documents' commands
}

const (
	nodeName    = "ctnode"
	nodeAddress = "10.88.0.1"
	podSubnet   = "10.88.1.0/24"
	cgroupRoot  = "/ctnode" // of the pods, in each hierarchy, where systemd does not make their cgroups
)

// kubernetesPrograms returns the directory of kubelet, kubectl and the other programs, which are built from Kubernetes'
// Go module. Two idle processors take a quarter of an hour for it.
func kubernetesPrograms(t *testing.T) string {
	t.Helper()
	sum := sha256.New()
	for _, name := range []string{"go.mod", "main.go"} {
		text, err := os.ReadFile(filepath.Join("kubernetes", name))
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(text)
	}
	name := fmt.Sprintf("kubernetes-%s-%x", kubernetes, sum.Sum(nil)[:4])
	skipTooLate(t, name)
	return engine(t, name, func(ctx context.Context, dir string) error {
		minor := strings.Split(kubernetes, ".")[1]
		const variable = " -X k8s.io/component-base/version."
		stamp := "-s -w" + variable + "gitVersion=" + kubernetes + variable + "gitMajor=1" + variable + "gitMinor=" + minor
		binary := filepath.Join(dir, "kubernetes")
		if err := run(ctx, "kubernetes", []string{"CGO_ENABLED=0", "GOFLAGS="}, "go", "build", "-trimpath",
			"-ldflags", stamp, "-o", binary, "."); err != nil {
			return err
		}
		for _, program := range []string{
			"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl",
		} {
			if err := os.Symlink("kubernetes", filepath.Join(dir, program)); err != nil {
				return err
			}
		}
		return nil
	})
}

// startCluster starts a cluster until the end of the test, and waits until its node is ready.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{programs: kubernetesPrograms(t), cgroups: cgroupRoot}
	etcd := debianProgram(t, "debian-sid-etcd-"+runtime.GOARCH, []string{"etcd-server"}, "etcd")
	dir, err := os.MkdirTemp("", "ctnode-") // the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	c.dir = dir
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Cleanup(func() { c.leaveNothing(t) })
	c.nodeNetwork(t)
	c.write(t, "tokens.csv", "admin,admin,admin,system:masters\nnode,system:node:"+nodeName+",node,system:nodes\n")
	c.write(t, "sa.key", newKey(t))
	c.start(t, etcd, "--data-dir", c.path("etcd"), "--listen-peer-urls", "http://127.0.0.1:2380", "--unsafe-no-fsync",
		"--log-level", "error")
	c.startControlPlane(t)
	c.startNode(t)
	t.Cleanup(c.endProcesses)
	eventually(t, "the node is ready", func() error {
		_, err := c.kubectl("wait", "--for=condition=Ready", "--timeout=10s", "node/"+nodeName)
		return err
	})
	return c
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) program(name string) string { return filepath.Join(c.programs, name) }

// write writes a file below the cluster's directory and returns its path.
func (c *cluster) write(t *testing.T, name, text string) string {
	t.Helper()
	path := c.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// onNode returns the command that runs a program in the network of the node. Unlike ip netns exec it leaves the mounts
// as they are: the kubelet needs those of cgroups.
func (c *cluster) onNode(command ...string) []string {
	if c.machine {
		return command
	}
	return append([]string{"nsenter", "--net=/run/netns/" + nodeName}, command...)
}

func (c *cluster) start(t *testing.T, command ...string) {
	t.Helper()
	command = c.onNode(command...)
	start(t, command[0], command[1:]...)
}

// nodeNetwork makes the network of the node. Its address is that of an interface whose other end has no use.
func (c *cluster) nodeNetwork(t *testing.T) {
	t.Helper()
	if !c.machine {
		exec.Command("ip", "netns", "del", nodeName).Run() // of a run that was killed
		output(t, "", "ip", "netns", "add", nodeName)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", nodeName).Run() })
	}
	for _, command := range []string{
		"ip link set lo up", "ip link add eth0 type veth peer name unused", "ip link set unused up", "ip link set eth0 up",
		"ip addr add " + nodeAddress + "/24 dev eth0", "ip route add default dev eth0",
		"echo 1 >/proc/sys/net/ipv4/ip_forward",
	} {
		shell := c.onNode("sh", "-c", command)
		output(t, "", shell[0], shell[1:]...)
	}
}

// newKey returns the key that signs tokens of service accounts.
func newKey(t *testing.T) string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

// config writes the configuration of a client with a token of tokens.csv.
func (c *cluster) config(t *testing.T, token string) string {
	t.Helper()
	return c.write(t, token+".kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://127.0.0.1:6443", certificate-authority: %s}}]
users: [{name: test, user: {token: %s}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`, c.path("apiserver/apiserver.crt"), token))
}

func (c *cluster) startControlPlane(t *testing.T) {
	t.Helper()
	c.start(t, c.program("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379", "--bind-address=127.0.0.1",
		"--cert-dir="+c.path("apiserver"), "--token-auth-file="+c.path("tokens.csv"), "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction", "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+c.path("sa.key"), "--service-account-signing-key-file="+c.path("sa.key"),
		"--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none", "--allow-privileged",
		"--kubelet-preferred-address-types=InternalIP")
	c.kubeconfig = c.config(t, "admin")
	eventually(t, "the API server is ready", func() error { _, err := c.kubectl("get", "--raw", "/readyz"); return err })
	c.start(t, c.program("kube-controller-manager"), "--kubeconfig="+c.kubeconfig, "--bind-address=127.0.0.1",
		"--leader-elect=false", "--service-account-private-key-file="+c.path("sa.key"),
		"--root-ca-file="+c.path("apiserver/apiserver.crt"))
	c.start(t, c.program("kube-scheduler"), "--kubeconfig="+c.kubeconfig, "--bind-address=127.0.0.1",
		"--leader-elect=false")
}

// kubectl returns what kubectl prints. An error has what it says.
func (c *cluster) kubectl(args ...string) (string, error) {
	command := c.onNode(append([]string{c.program("kubectl"), "--kubeconfig", c.kubeconfig}, args...)...)
	var stderr bytes.Buffer
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr, cmd.Env = &stderr, append(os.Environ(), "HOME="+c.dir)
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
	return string(out), err
}

// get returns what kubectl prints, and fails the test if it fails.
func (c *cluster) get(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.kubectl(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// endProcesses ends the cluster's programs, and the containers, which the kubelet and containerd would leave running.
func (c *cluster) endProcesses() {
	for began := time.Now(); time.Since(began) < timeout; time.Sleep(100 * time.Millisecond) {
		left := c.leftProcesses()
		for _, pid := range left {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(left) == 0 {
			return
		}
	}
}

// leaveNothing removes the mounts and the cgroups that the node leaves behind.
func (c *cluster) leaveNothing(t *testing.T) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(string(mounts)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if at := strings.Fields(lines[i])[4]; strings.HasPrefix(at, c.dir+"/") {
			syscall.Unmount(at, syscall.MNT_DETACH)
		}
	}
	for _, hierarchy := range hierarchies(t) {
		var dirs []string
		filepath.WalkDir(hierarchy+c.cgroups, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := os.Remove(dirs[i]); err != nil {
				t.Error(err)
			}
		}
	}
}

// leftProcesses are those in the cgroups of the pods, and those whose arguments have the cluster's directory.
func (c *cluster) leftProcesses() (pids []int) {
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, entry := range entries {
		arguments, _ := os.ReadFile(filepath.Join(entry, "cmdline"))
		cgroups, _ := os.ReadFile(filepath.Join(entry, "cgroup"))
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err == nil && len(arguments) > 0 && (bytes.Contains(arguments, []byte(c.dir+"/")) ||
			bytes.Contains(cgroups, []byte(":"+c.cgroups+"/"))) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// hierarchies returns where the hierarchies of cgroups are mounted, of both versions.
func hierarchies(t *testing.T) (dirs []string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if (fields[2] == "cgroup" || fields[2] == "cgroup2") && strings.HasPrefix(fields[1], "/sys/fs/cgroup") {
			dirs = append(dirs, fields[1])
		}
	}
	return dirs
}
