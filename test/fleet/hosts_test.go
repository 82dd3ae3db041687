package fleet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// timeout bounds how long something may take that takes a second on an idle machine. An emulated one sets a longer one.
var timeout = 2 * time.Minute

// The hosts are network namespaces behind a router, which translates addresses and ports: clients connect to the
// router's port 443, and the server sees connections from the router.
var hosts = []struct{ name, address, router string }{
	{"ctweb1", "10.77.1.2", "10.77.1.1"}, {"ctweb2", "10.77.3.2", "10.77.3.1"}, {"ctdb1", "10.77.2.2", "10.77.2.1"},
}

const (
	routerName = "ctnat"
	serverHost = "ctdb1"
	serverAt   = "10.77.2.2:5432"
)

const translation = `
table ip nat {
	chain in {
		type nat hook prerouting priority dstnat;
		tcp dport 443 dnat to ` + serverAt + `
	}
	chain out {
		type nat hook postrouting priority srcnat;
		ip daddr 10.77.2.2 masquerade random
	}
}`

// network makes the hosts and the router, until the end of the test.
func network(t *testing.T) {
	t.Helper()
	ip := func(args ...string) { t.Helper(); output(t, "", "ip", args...) }
	for _, name := range []string{routerName, hosts[0].name, hosts[1].name, hosts[2].name} {
		exec.Command("ip", "netns", "del", name).Run() // of a run that was killed
		ip("netns", "add", name)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
		ip("-n", name, "link", "set", "lo", "up")
	}
	for _, h := range hosts {
		ip("link", "add", "name", "eth0", "netns", h.name, "type", "veth", "peer", "name", h.name, "netns", routerName)
		ip("-n", h.name, "addr", "add", h.address+"/24", "dev", "eth0")
		ip("-n", h.name, "link", "set", "eth0", "up")
		ip("-n", routerName, "addr", "add", h.router+"/24", "dev", h.name)
		ip("-n", routerName, "link", "set", h.name, "up")
		ip("-n", h.name, "route", "add", "default", "via", h.router)
	}
	ip("netns", "exec", routerName, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	output(t, translation, "ip", "netns", "exec", routerName, "nft", "-f", "-")
}

// process is a program that runs until the end of the test.
type process struct {
	*exec.Cmd
	t      *testing.T
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr bytes.Buffer
	ended  bool
}

func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(name, args...), t: t}
	p.Cmd.Stderr = &p.stderr
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(stdout)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	return p
}

// end ends the program as a service manager does, and waits for it.
func (p *process) end() {
	if p.ended {
		return
	}
	p.ended = true
	p.stdin.Close()
	p.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(timeout, func() { p.Process.Kill() })
	defer kill.Stop()
	io.Copy(io.Discard, p.stdout)
	p.Wait()
	if p.t.Failed() {
		p.t.Logf("%s said:\n%s", p.Cmd, &p.stderr)
	}
}

// program returns the path of this test under another name, for a workload.
func program(t *testing.T, dir, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, name)
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// onHost returns the command that runs a program in the network of a host and under its name.
func onHost(host string, command ...string) []string {
	return append([]string{"netns", "exec", host}, command...)
}

// get returns the answer of an engine.
func get(t *testing.T, url string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return text, err
}

// eventually waits until something holds, and returns why not otherwise.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for began := time.Now(); time.Since(began) < timeout; time.Sleep(200 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, timeout, err)
}

// answers waits until a URL is answered.
func answers(t *testing.T, url string) {
	t.Helper()
	eventually(t, url, func() error { _, err := get(t, url); return err })
}

// rows parses lines of JSON objects.
func rows(t *testing.T, text []byte) (all []map[string]string) {
	t.Helper()
	for line := range strings.Lines(string(text)) {
		row := map[string]string{}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, row)
	}
	return all
}
