package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// What the chart is checked with. kubernetes is the release whose API the objects are validated against.
const (
	helmPackage      = "helm.sh/helm/v3/cmd/helm@v3.22.0"
	kubeconform      = "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0"
	kubernetes       = "v1.37.2"
	kubernetesModule = "k8s.io/kubernetes@" + kubernetes
)

const chart = "../../deploy/helm/closetrace"

// everything are values that switch on all that the chart can make.
const everything = `
image: {repository: registry.test/closetrace, digest: "sha256:` +
	`aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", pullSecrets: [mine]}
config: {workloads: 50, last: 20, stuck-every: 1m}
clusterName: east
hostNetwork: true
containerNames: {enabled: true}
seccomp: {type: Localhost, localhostProfile: closetrace.json}
affinity: {podAntiAffinity: {}}
priorityClassName: system-node-critical
podAnnotations: {a: b}
podLabels: {c: d}
recordings: {hostPath: /var/lib/closetrace}
env:
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {name: collector, key: headers}}
volumes:
- {name: key, secret: {secretName: key, defaultMode: 256}}
volumeMounts:
- {name: key, mountPath: /run/key, readOnly: true}
podMonitor: {enabled: true, scrapeNativeHistograms: true, labels: {release: prometheus}}
`

// A daemonSet is what the tests look at of the object that the chart makes.
type daemonSet struct {
	Kind string
	Spec struct {
		// Of a PodMonitor.
		JobLabel               string `yaml:"jobLabel"`
		ScrapeNativeHistograms bool   `yaml:"scrapeNativeHistograms"`
		// Of a DaemonSet.
		Template struct {
			Metadata struct{ Labels map[string]any }
			Spec     podSpec
		}
	}
	Data map[string]string // of a ConfigMap
}

type podSpec struct {
	AutomountServiceAccountToken *bool `yaml:"automountServiceAccountToken"`
	HostPID                      bool  `yaml:"hostPID"`
	HostNetwork                  bool  `yaml:"hostNetwork"`
	Containers                   []struct {
		Image           string
		Args            []string
		Env             []struct{ Name, Value string }
		VolumeMounts    []map[string]any `yaml:"volumeMounts"`
		SecurityContext securityContext  `yaml:"securityContext"`
	}
	Volumes []map[string]any
}

type securityContext struct {
	Privileged               *bool
	AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
	ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
	Capabilities             struct{ Drop, Add []string }
	SeccompProfile           map[string]string `yaml:"seccompProfile"`
}

// helm runs helm on the chart with values, and returns what it printed.
func helm(t *testing.T, values string, args ...string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(goBinary(t, helmPackage), append(args, "--values", file)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "KUBECONFIG=/dev/null")
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// rendered returns the objects that the chart makes of values, as text and by kind.
func rendered(t *testing.T, values string) (string, map[string]daemonSet) {
	t.Helper()
	text, err := helm(t, values, "template", "night", chart, "--namespace", "closetrace", "--kube-version", kubernetes)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, text)
	}
	objects := map[string]daemonSet{}
	for decoder := yaml.NewDecoder(strings.NewReader(text)); ; {
		var object daemonSet
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return text, objects
		} else if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		objects[object.Kind] = object
	}
}

// staticPodFiles returns the pod of the chart as a kubelet reads it from a file, and the configuration, which is in a
// directory of the node: without the API server there is no ConfigMap.
func staticPodFiles(t *testing.T, values, configDir string) (pod, config string) {
	t.Helper()
	text, objects := rendered(t, values)
	var spec map[string]any
	for _, object := range strings.Split(text, "\n---\n") {
		var daemonSet struct {
			Kind string
			Spec struct{ Template struct{ Spec map[string]any } }
		}
		if err := yaml.Unmarshal([]byte(object), &daemonSet); err != nil {
			t.Fatal(err)
		}
		if daemonSet.Kind == "DaemonSet" {
			spec = daemonSet.Spec.Template.Spec
		}
	}
	volumes, ok := spec["volumes"].([]any)
	if !ok {
		t.Fatalf("the pod has no volumes: %v", spec)
	}
	for _, volume := range volumes {
		if v, ok := volume.(map[string]any); ok && v["name"] == "config" {
			delete(v, "configMap")
			v["hostPath"] = map[string]any{"path": configDir}
		}
	}
	manifest, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "spec": spec, "metadata": map[string]any{
			"name": "closetrace", "namespace": "closetrace", "labels": map[string]string{"app.kubernetes.io/name": "closetrace"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(manifest), objects["ConfigMap"].Data["serve.yaml"]
}

func TestChartLint(t *testing.T) {
	for _, values := range []string{"", everything} {
		if text, err := helm(t, values, "lint", "--strict", "--kube-version", kubernetes, chart); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

// The API server accepts each object; it would refuse a field that it does not have.
func TestChartObjects(t *testing.T) {
	schemas := t.TempDir()
	document, err := os.ReadFile(filepath.Join(goModule(t, kubernetesModule), "api", "openapi-spec", "swagger.json"))
	if err != nil {
		t.Fatal(err)
	}
	if n := writeSchemas(t, document, schemas); n < 100 {
		t.Fatalf("%d kinds in the API of Kubernetes %s", n, kubernetes)
	}
	conform := func(objects string) (string, error) {
		cmd := exec.Command(goBinary(t, kubeconform), "-strict", "-summary", "-skip", "PodMonitor",
			"-schema-location", schemas+"/{{.ResourceKind}}{{.KindSuffix}}.json")
		cmd.Stdin = strings.NewReader(objects)
		text, err := cmd.CombinedOutput()
		return string(text), err
	}
	for values, valid := range map[string]string{"": "Valid: 2", everything: "Valid: 2"} {
		objects, _ := rendered(t, values)
		if text, err := conform(objects); err != nil || !strings.Contains(text, valid) {
			t.Errorf("%v\n%s", err, text)
		}
		misspelled := strings.Replace(objects, "readOnlyRootFilesystem", "readonlyRootFilesystem", 1)
		if text, err := conform(misspelled); err == nil || !strings.Contains(text, "readonlyRootFilesystem") {
			t.Errorf("a misspelled field is accepted: %v\n%s", err, text)
		}
	}
}

// The pod has what closetrace needs, and nothing else.
func TestChartPrivileges(t *testing.T) {
	for _, values := range []string{"", everything} {
		_, objects := rendered(t, values)
		pod := objects["DaemonSet"].Spec.Template.Spec
		if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken || !pod.HostPID ||
			pod.HostNetwork != (values == everything) || len(pod.Containers) != 1 {
			t.Errorf("pod %+v", pod)
		}
		security := pod.Containers[0].SecurityContext
		needed := []string{"BPF", "PERFMON", "SYSLOG", "DAC_READ_SEARCH", "SYS_PTRACE"}
		if security.Privileged == nil || *security.Privileged || security.AllowPrivilegeEscalation == nil ||
			*security.AllowPrivilegeEscalation || !security.ReadOnlyRootFilesystem ||
			!slices.Equal(security.Capabilities.Drop, []string{"ALL"}) || !slices.Equal(security.Capabilities.Add, needed) {
			t.Errorf("security context %+v", security)
		}
		if profile := map[string]string{"": "RuntimeDefault", everything: "Localhost"}; security.SeccompProfile["type"] !=
			profile[values] {
			t.Errorf("seccomp profile %v", security.SeccompProfile)
		}
		const node = "host.name=$(NODE_NAME),k8s.node.name=$(NODE_NAME)"
		want := map[string]string{"": node, everything: node + ",k8s.cluster.name=east"}
		variables := map[string]int{"": 2, everything: 4}
		env := pod.Containers[0].Env
		if len(env) != variables[values] || env[1].Value != want[values] {
			t.Errorf("environment %q", env)
		}
		if values == everything && env[2].Value != "unix:///run/containerd/containerd.sock" {
			t.Errorf("%s=%s", env[2].Name, env[2].Value)
		}
		if volumes := map[string]int{"": 2, everything: 5}; len(pod.Volumes) != volumes[values] {
			t.Errorf("volumes %v", pod.Volumes)
		}
	}
}

// The pod has what the user adds, after what the chart has: a header and a key, both from Secrets.
func TestChartAdditions(t *testing.T) {
	_, objects := rendered(t, everything)
	pod := objects["DaemonSet"].Spec.Template.Spec
	env, mounts := pod.Containers[0].Env, pod.Containers[0].VolumeMounts
	if env[len(env)-1].Name != "OTEL_EXPORTER_OTLP_HEADERS" {
		t.Errorf("environment %q", env)
	}
	if mounts[len(mounts)-1]["mountPath"] != "/run/key" || pod.Volumes[len(pod.Volumes)-1]["name"] != "key" {
		t.Errorf("mounts %v of volumes %v", mounts, pod.Volumes)
	}
}

// closetrace accepts the configuration that the chart writes.
func TestChartConfiguration(t *testing.T) {
	for _, values := range []string{"", everything} {
		_, objects := rendered(t, values)
		file := filepath.Join(t.TempDir(), "serve.yaml")
		if err := os.WriteFile(file, []byte(objects["ConfigMap"].Data["serve.yaml"]), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		cmd := exec.Command(closetrace(t), "serve", "--config", file, "--check-config")
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			t.Errorf("%v\n%s\nof:\n%s", err, &out, objects["ConfigMap"].Data["serve.yaml"])
		}
	}
}

// Prometheus reaches each pod, also one that has an IPv6 address only, and gives its metrics the name of the job for
// which the rules and the dashboard ask. A label may look like a number.
func TestChartIsScraped(t *testing.T) {
	text, objects := rendered(t, everything)
	const named = "sourceLabels: [__meta_kubernetes_pod_node_name]\n          targetLabel: instance\n"
	if !strings.Contains(text, named) {
		t.Errorf("no instance is named as its node:\n%s", text)
	}
	if !objects["PodMonitor"].Spec.ScrapeNativeHistograms {
		t.Errorf("native histograms are not scraped:\n%s", text)
	}
	// An operator before 0.88 does not have the field.
	if text, _ := rendered(t, "podMonitor: {enabled: true}"); strings.Contains(text, "NativeHistograms") {
		t.Errorf("native histograms are scraped by default:\n%s", text)
	}
	labels := objects["DaemonSet"].Spec.Template.Metadata.Labels
	if job := labels[objects["PodMonitor"].Spec.JobLabel]; job != "closetrace" {
		t.Errorf("the job is %v, by the labels %v", job, labels)
	}
	if config := objects["ConfigMap"].Data["serve.yaml"]; !strings.Contains(config, "listen: :9740\n") {
		t.Errorf("it does not listen on every address:\n%s", config)
	}
	text, err := helm(t, "", "template", "12345", chart, "--kube-version", kubernetes)
	if want := `app.kubernetes.io/instance: "12345"`; err != nil || strings.Count(text, want) != 4 {
		t.Errorf("%v, want 4 times %s:\n%s", err, want, text)
	}
}

func TestChartRefusesValues(t *testing.T) {
	for values, word := range map[string]string{
		"imagee: {}":                       "imagee",
		"image: {digest: latest}":          "digest",
		"port: 80":                         "port",
		"port: x":                          "port",
		"seccomp: {type: None}":            "type",
		"seccomp: {type: Localhost}":       "localhostProfile",
		"containerNames: {socket: run/x}":  "socket",
		"config: {listen: ':1'}":           "listen",
		"clusterName: 'a,b=c'":             "clusterName",
		"podMonitor: {interval: sometime}": "interval",
		"env: [{value: x}]":                "env",
		"volumeMounts: [{name: x}]":        "mountPath",
	} {
		text, err := helm(t, values, "template", "night", chart, "--kube-version", kubernetes)
		if err == nil || !strings.Contains(text, word) {
			t.Errorf("%s: %v\n%s", values, err, text)
		}
	}
}
