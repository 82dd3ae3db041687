package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/closetrace/closetrace/test/documents"
)

// The commands of docs/kubernetes.md work in a real cluster, and closetrace traces what its pods do.
func TestKubernetes(t *testing.T) {
	needsEngines(t)
	c := startCluster(t)
	helmDir := filepath.Dir(goBinary(t, helmPackage))
	c.environment = append(os.Environ(), "KUBECONFIG="+c.kubeconfig, "HOME="+c.dir,
		"PATH="+c.programs+":"+helmDir+":"+os.Getenv("PATH"))
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"workload", c.startShop},
		{"Pod Security", c.podSecurity},
		{"pod", c.pod},
		{"endings", c.endings},
		{"names", c.names},
		{"profile", c.profile},
		{"debug node", c.debugNode},
		{"uninstall", c.uninstall},
		{"static pod", c.staticPod},
	} {
		if !t.Run(step.name, step.run) {
			t.Logf("pods:\n%s", c.get(t, "get", "pods", "--all-namespaces", "-o", "wide"))
			t.Fatalf("%s failed: what follows needs it", step.name)
		}
	}
}

// documented returns the command of docs/kubernetes.md that begins with these words, with more arguments.
func documented(t *testing.T, begin string, more ...string) string {
	t.Helper()
	all, err := documents.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		commands, err := d.Commands()
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range commands {
			if d.File == "docs/kubernetes.md" && strings.HasPrefix(command.Text, begin) {
				return strings.NewReplacer("IMAGE", closetraceImage, "TAG", imageTag, "NODE", nodeName).
					Replace(command.Text) + " " + strings.Join(more, " ")
			}
		}
	}
	t.Fatalf("docs/kubernetes.md has no command %q", begin)
	return ""
}

// shell runs a command line on the node, in the root of the repository.
func (c *cluster) shell(line string) (string, error) {
	command := c.onNode("sh", "-c", line)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Env = "../..", c.environment
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", line, err, out)
	}
	return string(out), err
}

// succeeds runs a documented command.
func (c *cluster) succeeds(t *testing.T, begin string, more ...string) {
	t.Helper()
	if _, err := c.shell(documented(t, begin, more...)); err != nil {
		t.Fatal(err)
	}
}

// shopServer is the container of the server of the workload.
const shopServer = `{name: server, image: "` + shopImage + ":" + imageTag + `", command: [/` + serverName +
	`, ":5432"], stdin: true}`

// shop is the server of the workload, in a pod of the Deployment shop/cart.
const shop = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      containers:
        - ` + shopServer + `
`

func (c *cluster) startShop(t *testing.T) {
	c.get(t, "create", "namespace", "shop")
	c.get(t, "apply", "-f", c.write(t, "shop.yaml", shop))
	c.get(t, "-n", "shop", "rollout", "status", "deployment/cart", "--timeout=3m")
}

// work runs the client of the workload in a pod.
func (c *cluster) work(t *testing.T) {
	t.Helper()
	address := c.get(t, "-n", "shop", "get", "pods", "-l", "app=cart", "-o", "jsonpath={.items[0].status.podIP}")
	c.get(t, "-n", "shop", "run", "web", "--image", shopImage+":"+imageTag, "--restart=Never", "--command", "--",
		"/"+clientName, address+":5432", "")
	c.get(t, "-n", "shop", "wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=3m", "pod/web")
	var made []madeConnection
	out := c.get(t, "-n", "shop", "logs", "web")
	if err := json.Unmarshal([]byte(out), &made); err != nil || len(made) == 0 {
		t.Fatalf("the client printed %q: %v", out, err)
	}
	c.get(t, "-n", "shop", "delete", "pod", "web")
}

// podSecurity installs the chart in a namespace of level baseline, where it has no pod and an event says why. The label
// that docs/kubernetes.md has lets it run.
func (c *cluster) podSecurity(t *testing.T) {
	c.get(t, "create", "namespace", "closetrace")
	c.get(t, "label", "namespace", "closetrace", "pod-security.kubernetes.io/enforce=baseline")
	c.succeeds(t, "helm install")
	eventually(t, "Pod Security refuses the pod", func() error {
		messages, err := c.kubectl("-n", "closetrace", "get", "events", "-o", "jsonpath={.items[*].message}")
		for _, why := range []string{
			`violates PodSecurity "baseline:latest"`, "hostPID=true", `hostPath volumes (volume "cgroup")`,
			`"BPF", "DAC_READ_SEARCH", "PERFMON", "SYSLOG", "SYS_PTRACE"`,
		} {
			if err == nil && !strings.Contains(messages, why) {
				err = fmt.Errorf("no event has %q:\n%s", why, messages)
			}
		}
		return err
	})
	if pods := c.get(t, "-n", "closetrace", "get", "pods", "-o", "name"); pods != "" {
		t.Errorf("there are pods: %s", pods)
	}
	c.succeeds(t, "kubectl label namespace", "--overwrite")
	c.succeeds(t, "kubectl -n closetrace rollout status", "--timeout=3m")
}

// pod checks the pod that the kubelet runs: on the node, ready by /readyz, without a token.
func (c *cluster) pod(t *testing.T) {
	for path, want := range map[string]string{
		".spec.nodeName": nodeName, ".status.conditions[?(@.type=='Ready')].status": "True",
		".spec.containers[0].volumeMounts[*].name":                "config cgroup",
		".spec.containers[0].securityContext.privileged":          "false",
		".spec.containers[0].securityContext.seccompProfile.type": "RuntimeDefault",
	} {
		if got := c.podField(t, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	c.confined(t)
	forward := documented(t, "kubectl -n closetrace port-forward", ">/dev/null & ") +
		documented(t, "curl", "--silent", "--show-error", "--retry", "60", "--retry-connrefused", "--retry-delay", "1")
	if text, err := c.shell(forward + "; status=$?; kill $!; exit $status"); err != nil ||
		!strings.Contains(text, `"endings":[`) {
		t.Errorf("%v\n%s", err, text)
	}
}

// endings compares what closetrace has with what the pods did. It knows the pod by its UID.
func (c *cluster) endings(t *testing.T) {
	c.work(t)
	c.counted(t, "close.rst.unread", serverName, 1)
	c.counted(t, "close.rst.linger0", clientName, 1)
	ending, _, uid, container := c.ofCart(t)
	if ending.Container.ID != container || ending.Container.PodUID != uid {
		t.Errorf("%+v, want container %s of the pod %s", ending.Container, container, uid)
	}
}

// names rolls the pod with the socket of containerd: endings and workloads have the names of pods.
func (c *cluster) names(t *testing.T) {
	before := c.podField(t, ".metadata.name")
	c.succeeds(t, "helm upgrade", "--set", "clusterName=east", "--set", "containerNames.socket="+c.path("containerd.sock"))
	c.succeeds(t, "kubectl -n closetrace rollout status", "--timeout=3m")
	if after := c.podField(t, ".metadata.name"); after == before {
		t.Errorf("the pod is still %s", before)
	}
	if env := c.podField(t, ".spec.containers[0].env[1].value"); !strings.Contains(env, "k8s.cluster.name=east") {
		t.Errorf("OTEL_RESOURCE_ATTRIBUTES=%s", env)
	}
	c.work(t)
	c.work(t)
	c.counted(t, "close.rst.unread", "shop/cart", 2)
	ending, pod, _, _ := c.ofCart(t)
	if got := ending.Container; got.Namespace != "shop" || got.Pod != pod || got.Name != "server" {
		t.Errorf("%+v, want server of the pod %s of shop", got, pod)
	}
}

// profile rolls the pod with the seccomp profile of deploy/, which startNode put where the kubelet finds it.
func (c *cluster) profile(t *testing.T) {
	c.succeeds(t, "helm upgrade", "--set", "seccomp.type=Localhost", "--set", "seccomp.localhostProfile=closetrace.json")
	c.succeeds(t, "kubectl -n closetrace rollout status", "--timeout=3m")
	if file := c.podField(t, ".spec.containers[0].securityContext.seccompProfile.localhostProfile"); file == "" {
		t.Error("the pod has no seccomp profile of its own")
	}
	c.confined(t)
	c.work(t)
	c.work(t)
	c.counted(t, "close.rst.unread", "shop/cart", 2)
}

// debugNode traces the node from a pod that is not installed, in a terminal.
func (c *cluster) debugNode(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	command := c.onNode("sh", "-c", documented(t, "kubectl debug node", "--lport", port, "--count", "1"))
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = c.environment
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() {
		io.Copy(&out, terminal) // until the terminal has no other end
		done <- cmd.Wait()
	}()
	for err := error(errors.ErrUnsupported); err == errors.ErrUnsupported; {
		select {
		case err = <-done:
			if err != nil || !strings.Contains(out.String(), "close.rst.unread") ||
				!strings.Contains(out.String(), ":"+port) {
				t.Errorf("%v\n%s", err, &out)
			}
		case <-time.After(200 * time.Millisecond):
			leaveUnread(t, listener)
		}
	}
}

// uninstall leaves nothing in the namespace but what Kubernetes puts into each.
func (c *cluster) uninstall(t *testing.T) {
	c.succeeds(t, "helm uninstall")
	eventually(t, "everything is removed", func() error {
		kinds, err := c.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name")
		if err != nil {
			return err
		}
		kinds = strings.Join(strings.Fields(kinds), ",")
		left, err := c.kubectl("-n", "closetrace", "get", kinds, "-o", "name", "--ignore-not-found")
		for line := range strings.Lines(left) {
			if line = strings.TrimSpace(line); line != "configmap/kube-root-ca.crt" && line != "serviceaccount/default" &&
				!strings.HasPrefix(line, "event") {
				err = errors.Join(err, fmt.Errorf("%s is left", line))
			}
		}
		return err
	})
}

// staticPod runs the pod of the chart without the API server: the kubelet reads it from a file.
func (c *cluster) staticPod(t *testing.T) {
	pod, config := staticPodFiles(t, "image: {repository: "+closetraceImage+", tag: '"+imageTag+"'}", c.path("static"))
	c.write(t, "static/serve.yaml", config)
	file := c.write(t, "manifests/closetrace.json", pod)
	eventually(t, "the pod is ready", func() error {
		_, err := c.kubectl("-n", "closetrace", "wait", "--for=condition=Ready", "--timeout=10s", "pod/closetrace-"+nodeName)
		return err
	})
	c.confined(t)
	c.work(t)
	c.counted(t, "close.rst.unread", serverName, 1)
	c.counted(t, "close.rst.linger0", clientName, 1)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod is removed", func() error {
		left, err := c.kubectl("-n", "closetrace", "get", "pods", "-o", "name")
		if err == nil && left != "" {
			err = errors.New(strconv.Quote(left))
		}
		return err
	})
}
