package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// profile is the seccomp profile that the packages have.
const profile = "../seccomp/closetrace.json"

// capabilities are those of docs/privileges.md.
var capabilities = []string{"BPF", "PERFMON", "SYSLOG", "DAC_READ_SEARCH", "SYS_PTRACE"}

// The image traces in podman with the seccomp profile of the packages. With podman's own, it traces if that allows
// bpf(2) to CAP_BPF; otherwise check says that a seccomp filter denies it, and what to do.
func TestPodman(t *testing.T) {
	asRoot(t)
	// The limits are those of a process without CAP_SYS_RESOURCE.
	args := append(podman(t), "run", "--rm", "--read-only", "--network=host",
		"--pid=host", "--cgroupns=host", "--security-opt", "no-new-privileges", "--ulimit", "nofile=10000:10000",
		"--ulimit", "nproc=10000:10000", "--cap-drop=ALL",
	)
	image := loaded(t, "podman", one(t, "*_image.tar"))
	for _, c := range capabilities {
		args = append(args, "--cap-add="+c)
	}
	own, err := filepath.Abs(profile)
	if err != nil {
		t.Fatal(err)
	}
	traces(t, append(args, "--security-opt", "seccomp="+own, image))
	theirs, err := os.ReadFile("/usr/share/containers/seccomp.json")
	if err != nil {
		t.Fatal(err)
	}
	if denied := tracesUnlessDenied(t, append(args, image)); denied == bytes.Contains(theirs, []byte("CAP_BPF")) {
		t.Errorf("bpf(2) denied: %t, unlike podman's profile", denied)
	}
}

// podman returns the command, as it is in a microVM. Elsewhere its storage is the test's own, and it uses
// runc and no systemd: crun refuses a machine with cgroups of both versions.
func podman(t *testing.T) []string {
	t.Helper()
	if inGuest() {
		return []string{"podman"}
	}
	dir := t.TempDir()
	storage := fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n",
		filepath.Join(dir, "graph"), filepath.Join(dir, "run"))
	configuration := filepath.Join(dir, "storage.conf")
	if err := os.WriteFile(configuration, []byte(storage), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_STORAGE_CONF", configuration)
	return []string{"podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs"}
}

// tracesUnlessDenied checks that closetrace traces in a container, or that check says that the engine's seccomp profile
// denies it, and what to do.
func tracesUnlessDenied(t *testing.T, container []string) (denied bool) {
	t.Helper()
	const exitPrivilege = 3
	check := exec.Command(container[0], append(container[1:len(container):len(container)], "check")...)
	out, err := check.CombinedOutput()
	switch {
	case err == nil:
		reportsReset(t, container)
	case check.ProcessState.ExitCode() != exitPrivilege ||
		!bytes.Contains(out, []byte(": a seccomp filter denies it\nhint: ")) ||
		!bytes.Contains(out, []byte("closetrace.json")):
		t.Errorf("check: %v\n%s", err, out)
	}
	t.Logf("%s: its profile denies bpf(2): %t", container[0], err != nil)
	return err != nil
}

// The image traces in containerd with its default seccomp profile, and with that of the packages.
func TestContainerd(t *testing.T) {
	asRoot(t)
	dir := t.TempDir()
	socket := startContainerd(t, dir)
	ctr := []string{"ctr", "--address", socket}
	succeed(t, append(ctr, "images", "import", one(t, "*_image.tar"))...)
	image := strings.TrimSpace(succeed(t, append(ctr, "images", "list", "--quiet")...))
	args := append(ctr, "run", "--rm", "--snapshotter", "native", "--read-only", "--net-host", "--seccomp")
	for _, c := range capabilities {
		args = append(args, "--cap-add", "CAP_"+c)
	}
	traces(t, append(args, image, "default", "/closetrace"))
	traces(t, append(args, "--seccomp-profile", profile, image, "own", "/closetrace"))
}

// startContainerd starts a containerd with its files in dir and returns its socket.
func startContainerd(t *testing.T, dir string) (socket string) {
	t.Helper()
	socket = filepath.Join(dir, "s")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", "+
		"\"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket)
	configuration := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(configuration, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command("containerd", "--config", configuration)
	var log bytes.Buffer
	daemon.Stderr = &log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait()
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("containerd:\n%s", &log)
		}
	})
	awaitSocket(t, socket)
	return socket
}

// awaitSocket waits until a server listens at a socket.
func awaitSocket(t *testing.T, socket string) {
	t.Helper()
	for range 600 {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("nothing listens at %s", socket)
}

// traces checks that closetrace traces in a container, and that its check says so.
func traces(t *testing.T, container []string) {
	t.Helper()
	check := exec.Command(container[0], append(slices.Clip(container[1:]), "check")...)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%q check: %v\n%s", container, err, out)
	}
	reportsReset(t, container)
}

// attachTimeout bounds how long it takes until a reset is reported: on an emulated CPU that other guests share,
// attaching was seen to take more than two minutes.
const attachTimeout = 10 * time.Minute

// reportsReset runs closetrace in a container and resets a connection on the loopback interface again and again, until
// one reset is reported, with this process and its bytes.
func reportsReset(t *testing.T, container []string) {
	t.Helper()
	began := time.Now()
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), attachTimeout)
	defer cancel()
	trace := exec.CommandContext(ctx, container[0], append(slices.Clip(container[1:]),
		"--lport", port, "--only", "close.rst.unread", "--count", "1", "-o", "json")...)
	var out, stderr bytes.Buffer
	trace.Stdout, trace.Stderr = &out, &stderr
	if err := trace.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- trace.Wait() }()
	for err = io.EOF; err == io.EOF; {
		select {
		case err = <-done:
		case <-time.After(200 * time.Millisecond):
			if err := leaveUnread(listener); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, want := range []string{
		`"path":"close.rst.unread"`, `"local":"127.0.0.1:` + port + `"`, fmt.Sprintf(`"unread_bytes":%d`, len(unread)),
		fmt.Sprintf(`"actor":{"pid":%d,`, os.Getpid()), fmt.Sprintf(`"comm":%q`, strings.TrimSpace(string(comm))),
	} {
		if err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%q: %v, no %s in\n%s%s", container, err, want, &out, &stderr)
		}
	}
	t.Logf("%s: a reset is reported after %s", container[0], time.Since(began).Round(time.Second))
}

// unread is what the server does not read.
const unread = "unread"

// leaveUnread closes an accepted connection with unread data.
func leaveUnread(listener net.Listener) error {
	client, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		return err
	}
	if _, err := client.Write([]byte(unread)); err != nil {
		return err
	}
	time.Sleep(10 * time.Millisecond)
	return server.Close()
}

// succeed runs a command and returns its output.
func succeed(t *testing.T, command ...string) string {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		t.Fatalf("%q: %v\n%s", command, err, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func asRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("container engines and BPF need root")
	}
}
