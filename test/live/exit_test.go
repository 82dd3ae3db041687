//go:build linux

package live

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/kernel"
)

// program returns the path of closetrace: in the microVM it is installed,
// elsewhere it is built once.
var program = sync.OnceValues(func() (string, error) {
	if path, err := exec.LookPath("closetrace"); err == nil {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "closetrace")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "closetrace")
	cmd := exec.Command("go", "build", "-o", path, "../../cmd/closetrace")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // static, as it is shipped
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// privileged skips the test under the same conditions as trace.
func privileged(t testing.TB) {
	t.Helper()
	if err := kernel.CheckPrivileges(); err != nil && os.Getenv("CLOSETRACE_LIVE") != "1" {
		t.Skipf("needs the privileges of closetrace: %v", err)
	}
}

// start runs closetrace. The buffer may be read when it has ended.
func start(t testing.TB, args ...string) (cmd *exec.Cmd, stdout io.ReadCloser, stderr *bytes.Buffer) {
	t.Helper()
	path, err := program()
	must(t, err)
	cmd = exec.Command(path, append(args, "--attach", *attach)...)
	stderr = new(bytes.Buffer)
	cmd.Stderr = stderr
	stdout, err = cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd, stdout, stderr
}

// waitExit waits until the process exits, within 30 s, and returns the exit code.
func waitExit(t testing.TB, cmd *exec.Cmd) int {
	t.Helper()
	timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Signal(syscall.SIGQUIT) })
	defer timer.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// SIGINT at any moment of the start ends closetrace cleanly, with nothing left
// attached.
func TestInterruptWhileAttaching(t *testing.T) {
	privileged(t)
	// A shell ignores SIGINT for what it runs in the background, and so would the
	// programs that are started here, up to the moment at which they ask for it.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	for _, after := range []time.Duration{0, 3, 10, 30, 60, 100, 200, 400} {
		cmd, stdout, stderr := start(t)
		go io.Copy(io.Discard, stdout)
		time.Sleep(after * time.Millisecond) // the moment is the point of the test
		must(t, cmd.Process.Signal(os.Interrupt))
		code := waitExit(t, cmd)
		// Before main has asked for signals, the runtime dies of it.
		early := cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled()
		if code != 0 && !early || strings.Contains(stderr.String(), "goroutine") {
			t.Errorf("SIGINT after %d ms: exit code %d, %s", after, code, stderr)
		}
	}
	checkDetached(t, nil)
}

// The reader closes the pipe: closetrace ends, and nothing stays attached.
func TestClosedPipe(t *testing.T) {
	privileged(t)
	cmd, stdout, stderr := start(t, "-o", "json")
	l, addr := listen(t, loopback4)
	defer unix.Close(l)
	reading := make(chan struct{})
	go func() {
		stdout.Read(make([]byte, 1))
		close(reading)
	}()
	for done := false; !done; { // closes until the first is reported
		a, b := connect(t, l, addr)
		unix.Close(a.fd)
		unix.Close(b.fd)
		select {
		case <-reading:
			done = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	own := held(t, cmd.Process.Pid)
	stdout.Close()
	if code := waitExit(t, cmd); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	checkDetached(t, own)
}

// After SIGKILL, closetrace cannot clean up: the kernel does.
func TestKilled(t *testing.T) {
	privileged(t)
	cmd, _, _ := start(t)
	var own map[object]string
	eventually(t, "programs and maps loaded", func() bool {
		own = held(t, cmd.Process.Pid)
		return len(own) > 4
	})
	must(t, cmd.Process.Kill())
	cmd.Wait()
	checkDetached(t, own)
}

// Without BTF of the kernel, closetrace prints one line and a hint, and exits
// with code 4.
func TestNoBTF(t *testing.T) {
	privileged(t)
	if code, out := withoutBTF(t); code != 4 || !isErrorWithHint(out) {
		t.Errorf("exit code %d, want 4, with one line and a hint:\n%s", code, out)
	}
}

// With the BTF of the kernel in a file, closetrace traces without that in /sys, and what it reports is right. A file
// with anything else is a usage error.
func TestBTFFromFile(t *testing.T) {
	privileged(t)
	const own = "/sys/kernel/btf/vmlinux"
	types, err := os.ReadFile(own)
	must(t, err)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, data, 0o644))
		return path
	}
	file := write("kernel.btf", types)
	if code, out := withoutBTF(t, "lab", "--btf", file, "close.rst.unread"); code != 0 {
		t.Errorf("exit code %d of the lab:\n%s", code, out)
	}
	if code, out := withoutBTF(t, "check", "--btf", file); code != 0 || !strings.Contains(out, "closetrace uses ") {
		t.Errorf("exit code %d of check:\n%s", code, out)
	}
	fifo := filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	program, err := program()
	must(t, err)
	for _, wrong := range []string{
		filepath.Join(dir, "absent"), dir, fifo, "/dev/zero", program, write("empty", nil), write("text", []byte("BTF\n")),
		write("truncated", types[:len(types)/2]), write("swapped", append([]byte{types[1], types[0]}, types[2:]...)),
		write("another", bytes.ReplaceAll(types, []byte("\x00__"), []byte("\x00xx"))),
	} {
		if code, out := withoutBTF(t, "--btf", wrong); code != 2 || !isErrorWithHint(out) ||
			!strings.HasPrefix(out, "closetrace: --btf ") {
			t.Errorf("--btf %s: exit code %d, want 2, with one line and a hint:\n%s", wrong, code, out)
		}
	}
}

func isErrorWithHint(out string) bool {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return len(lines) == 2 && strings.HasPrefix(lines[0], "closetrace: ") && strings.HasPrefix(lines[1], "hint: ")
}

// withoutBTF runs closetrace where the kernel has no BTF, and returns its exit code and all that it printed.
func withoutBTF(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	path, err := program()
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: its mount namespace is not ours
		if err := hide("/sys/kernel/btf", "/boot", "/lib/modules", "/usr/lib/modules"); err != nil {
			t.Error(err)
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, args...)
		output, _ := cmd.CombinedOutput()
		code, out = cmd.ProcessState.ExitCode(), string(output)
	}()
	<-done
	return code, out
}

// hide covers directories with empty ones, in a mount namespace of this thread.
func hide(dirs ...string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
			return err
		}
	}
	return nil
}

// For a mode that this kernel refuses, closetrace prints one line and a hint. A
// kernel that supports all modes refuses none.
func TestRefusedMode(t *testing.T) {
	privileged(t)
	path, err := program()
	must(t, err)
	for _, mode := range []string{"fentry", "kprobe", "tracepoint"} {
		out, _ := exec.Command(path, "--attach", mode, "--duration", "1ms").CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		starts := func(line string) bool { return strings.HasPrefix(line, "closetrace: tracing on") }
		if slices.ContainsFunc(lines, starts) {
			continue // it may say before what it does not see
		}
		if len(lines) != 2 || !strings.HasPrefix(lines[0], "closetrace: attach mode") ||
			!strings.HasPrefix(lines[1], "hint: ") {
			t.Errorf("%s refused, want one line and a hint:\n%s", mode, out)
		}
	}
	checkDetached(t, nil)
}
