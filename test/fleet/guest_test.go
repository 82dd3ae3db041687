package fleet

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Places in the microVM. The files of the repository are at their places in it, as tests look for them beside them.
const (
	guestRepository = "/closetrace"
	guestNode       = "/var/lib/ctnode"
	guestKubelet    = guestNode + "/bin/kubelet"
	guestStatic     = guestNode + "/static"          // of the configuration of closetrace
	guestPod        = guestNode + "/closetrace.json" // until the kubelet is to read it
)

// guestVariable, in the environment, says that this is the microVM.
const guestVariable = "CLOSETRACE_FLEET_GUEST"

// bootStaticNode runs the test that calls it in the microVM, with the programs of the node, and returns what it prints.
func bootStaticNode(t *testing.T) (out string) {
	t.Helper()
	pod, config := staticPodFiles(t, fmt.Sprintf(`
image: {repository: %s, tag: "%s"}
config: {last: 1000}
containerNames: {enabled: true, socket: %s/containerd.sock}
seccomp: {type: Localhost, localhostProfile: closetrace.json}
`, closetraceImage, imageTag, guestNode), guestStatic)
	profile, err := filepath.Abs(seccompProfile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := map[string]string{
		guestRepository + "/test/fleet/fleet.test":          staticSelf(t),
		guestRepository + "/closetrace":                     closetrace(t),
		guestRepository + "/deploy/seccomp/closetrace.json": profile,
		guestKubelet:                filepath.Join(kubernetesPrograms(t), "kubernetes"),
		guestPod:                    filepath.Join(dir, "pod"),
		guestStatic + "/serve.yaml": filepath.Join(dir, "config"),
	}
	for name, text := range map[string]string{"pod": pod, "config": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{
		"-C", "../..", "run", "./test/vm", "-v", "-kernel", "6.12", "-timeout", "40m",
		"-debian", "dbus,iproute2,runc,containerd,containernetworking-plugins",
	}
	for to, from := range files {
		args = append(args, "-file", from+":"+to)
	}
	args = append(args, "--", "/bin/sh", "-c", "cd "+guestRepository+"/test/fleet && CLOSETRACE_FLEET=1 "+guestVariable+
		"=1 exec ./fleet.test -test.v -test.timeout 39m -test.run '^"+t.Name()+"$'")
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	boot := exec.CommandContext(ctx, "go", args...)
	var text bytes.Buffer
	boot.Stdout, boot.Stderr = io.MultiWriter(&text, os.Stdout), os.Stderr
	if err := boot.Run(); err != nil {
		t.Error(err)
	}
	return text.String()
}

// ask returns what closetrace answers in its pod.
func (n *staticNode) ask(t *testing.T, path string) string {
	t.Helper()
	text, err := get(t, "http://"+n.closetrace.Status.PodIP+":9740/"+path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// askKubelet returns what the kubelet answers, whose certificate is its own. Connections are used again: the ends of
// many would be all that closetrace shows.
func (n *staticNode) askKubelet(t *testing.T, path string) (string, error) {
	t.Helper()
	if n.kubelet == nil {
		certificate, err := os.ReadFile(n.path("kubelet-pki/kubelet.crt"))
		if err != nil {
			return "", err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(certificate) {
			return "", fmt.Errorf("no certificate in %q", certificate)
		}
		n.kubelet = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: nodeName},
		}}
	}
	answer, err := n.kubelet.Get("https://" + net.JoinHostPort(nodeAddress, "10250") + "/" + path)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return string(text), err
}

// logs returns what the only container of a pod of the workload prints.
func (n *staticNode) logs(t *testing.T, pod kubeletPod) (string, error) {
	t.Helper()
	return n.askKubelet(t, fmt.Sprintf("containerLogs/%s/%s/%s", pod.Metadata.Namespace, pod.Metadata.Name,
		pod.Status.ContainerStatuses[0].Name))
}
