package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// podField returns a field of the pod of closetrace.
func (c *cluster) podField(t *testing.T, path string) string {
	t.Helper()
	return c.get(t, "-n", "closetrace", "get", "pods", "-l", "app.kubernetes.io/name=closetrace",
		"--field-selector=status.phase=Running", "-o", "jsonpath={.items[0]"+path+"}")
}

// confined checks that the kernel filters the calls of closetrace and bounds its capabilities to those of the chart,
// and that its root is read-only.
func (c *cluster) confined(t *testing.T) {
	t.Helper()
	bound := uint64(0)
	for _, capability := range []int{
		unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYSLOG, unix.CAP_DAC_READ_SEARCH, unix.CAP_SYS_PTRACE,
	} {
		bound |= 1 << capability
	}
	found := 0
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, entry := range entries {
		arguments, _ := os.ReadFile(filepath.Join(entry, "cmdline"))
		cgroups, _ := os.ReadFile(filepath.Join(entry, "cgroup"))
		if !bytes.HasPrefix(arguments, []byte("/closetrace\x00serve\x00")) ||
			!bytes.Contains(cgroups, []byte(":"+c.cgroups+"/")) {
			continue
		}
		found++
		status, err := os.ReadFile(filepath.Join(entry, "status"))
		for _, want := range []string{"Seccomp:\t2", "NoNewPrivs:\t1", fmt.Sprintf("CapBnd:\t%016x", bound)} {
			if err != nil || !bytes.Contains(status, []byte("\n"+want+"\n")) {
				t.Errorf("no %q: %v\n%s", want, err, status)
			}
		}
		mounts, err := os.ReadFile(filepath.Join(entry, "mountinfo"))
		if err != nil || !regexp.MustCompile(`(?m)^\d+ \d+ \S+ \S+ / ro[, ]`).Match(mounts) {
			t.Errorf("its root is not read-only: %v\n%s", err, mounts)
		}
	}
	if found != 1 {
		t.Errorf("closetrace runs in %d containers of the node", found)
	}
}

// http returns what the pod of closetrace answers, through the API server.
func (c *cluster) http(t *testing.T, path string) string {
	t.Helper()
	pod := c.podField(t, ".metadata.name")
	return c.get(t, "get", "--raw", "/api/v1/namespaces/closetrace/pods/"+pod+":9740/proxy/"+path)
}

// counted waits until closetrace has counted what ended by a path, in as many rounds of work as are given and under
// the name of a workload. All endings of one round have this name, but not those before the runtime was asked for it.
func (c *cluster) counted(t *testing.T, path, name string, rounds int) {
	t.Helper()
	made := workload[clientAborts]
	if path == "close.rst.unread" {
		made = workload[serverLeavesUnread]
	}
	series := fmt.Sprintf("closetrace_tcp_endings_total{path=%q,workload=%q}", path, name)
	eventually(t, "the endings are counted", func() error {
		text := c.http(t, "metrics")
		found := regexp.MustCompile(regexp.QuoteMeta(series) + ` (\d+)`).FindStringSubmatch(text)
		if found != nil {
			if n, err := strconv.Atoi(found[1]); err == nil && made <= n && n <= rounds*made {
				return nil
			}
		}
		lines := regexp.MustCompile(`(?m)^closetrace_tcp_endings_total.*`).FindAllString(text, -1)
		return fmt.Errorf("%s: %q, want %d, in:\n%s", series, found, made, strings.Join(lines, "\n"))
	})
}

// lastEnding is what the tests look at of /debug/last.
type lastEnding struct {
	Path         string
	ConnectionID string `json:"connection_id"`
	LocalPort    int    `json:"local_port"`
	Container    struct {
		ID, Runtime, Name, Pod, Namespace string
		PodUID                            string `json:"pod_uid"`
	}
}

// ofCart returns the last reset of the server for unread data, and the pod and the container of the server.
func (c *cluster) ofCart(t *testing.T) (e lastEnding, pod, uid, container string) {
	t.Helper()
	var last struct{ Endings []lastEnding }
	text := c.http(t, "debug/last")
	if err := json.Unmarshal([]byte(text), &last); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	i := slices.IndexFunc(last.Endings, func(e lastEnding) bool { return e.Path == "close.rst.unread" })
	if i < 0 {
		t.Fatalf("no ending close.rst.unread in %s", text)
	}
	fields := strings.Fields(c.get(t, "-n", "shop", "get", "pods", "-l", "app=cart", "-o",
		"jsonpath={.items[0].metadata.name} {.items[0].metadata.uid} {.items[0].status.containerStatuses[0].containerID}"))
	return last.Endings[i], fields[0], fields[1], strings.TrimPrefix(fields[2], "containerd://")
}

// leaveUnread closes an accepted connection with unread data.
func leaveUnread(t *testing.T, listener net.Listener) {
	t.Helper()
	client, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write(make([]byte, unreadBytes)); err != nil {
		t.Fatal(err)
	}
	awaitUnread(server.(*net.TCPConn))
	server.Close()
}
