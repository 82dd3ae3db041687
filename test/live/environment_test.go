//go:build linux

package live

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// What an environment refuses to root is named, by trace and by check, in one line
// and a hint.
func TestRefusedToRoot(t *testing.T) {
	privileged(t)
	for name, tt := range map[string]struct {
		inEnvironment func(testing.TB, *exec.Cmd)
		code          int
		what, next    string
	}{
		"seccomp": {withoutBPF, 3, "bpf(2) is denied although this process has the capabilities for it: " +
			"a seccomp filter denies it", "--security-opt seccomp=FILE"},
		"user namespace": {inUserNamespace, 3, "bpf(2) is denied although this process has the capabilities for it: " +
			"they count in a user namespace only", "outside of the user namespace"},
		"no proc":      {withoutProc, 1, "/proc is not mounted", "mount -t proc proc /proc"},
		"few files":    {fewFiles(40), 1, "the limit on open files is 40; closetrace needs 128", "prlimit --nofile=1024"},
		"hardly files": {fewFiles(5), 1, "the limit on open files is 5; closetrace needs 16", "prlimit --nofile=1024"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasSuffix(name, "files") {
				needsShell(t)
			}
			for _, command := range [][]string{{"--duration", "1s"}, {"check"}} {
				path, err := program()
				must(t, err)
				cmd := exec.Command(path, command...)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				done := make(chan struct{})
				go func() {
					defer close(done)
					runtime.LockOSThread() // never unlocked: what is refused to it, is refused for good
					tt.inEnvironment(t, cmd)
					_ = cmd.Run() // its exit code is looked at
				}()
				<-done
				lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
				if cmd.ProcessState.ExitCode() != tt.code || len(lines) != 2 ||
					!strings.HasPrefix(lines[0], "closetrace: "+tt.what) ||
					!strings.HasPrefix(lines[1], "hint: ") || !strings.Contains(lines[1], tt.next) {
					t.Errorf("%v: exit code %d, %s", command, cmd.ProcessState.ExitCode(), &stderr)
				}
			}
		})
	}
}

// needsShell skips a test where there is no shell, as in a guest.
func needsShell(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skipf("it needs a shell: %v", err)
	}
}

// withoutBPF installs a seccomp filter that denies bpf(2), as container engines
// do.
func withoutBPF(t testing.TB, _ *exec.Cmd) {
	const equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // number of the system call
		{Code: equal, Jf: 1, K: unix.SYS_BPF},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	must(t, unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0))
	runtime.KeepAlive(filter)
}

func inUserNamespace(t testing.TB, cmd *exec.Cmd) {
	cmd.Path = executableByAll(t)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{Size: 1}}, GidMappings: []syscall.SysProcIDMap{{Size: 1}},
	}
}

func withoutProc(t testing.TB, _ *exec.Cmd) {
	must(t, unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS))
	must(t, unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Unmount("/proc", unix.MNT_DETACH))
}

func fewFiles(limit int) func(testing.TB, *exec.Cmd) {
	return func(_ testing.TB, cmd *exec.Cmd) {
		script := fmt.Sprintf("ulimit -n %d; exec \"$@\"", limit)
		cmd.Args = append([]string{"sh", "-c", script, "sh", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
	}
}

// A full disk ends the recording, which closetrace says at once, and not the
// trace. The exit code says it as well, and what is in the recording is replayed.
func TestDiskFull(t *testing.T) {
	privileged(t)
	disk := t.TempDir()
	must(t, unix.Mount("none", disk, "tmpfs", 0, "size=64k"))
	defer unix.Unmount(disk, unix.MNT_DETACH)
	file := filepath.Join(disk, "full.rec")
	inNetns(t, func(uint32) {
		out := outputFile(t)
		r := launchTo(t, out, "--netns", threadNetns(), "-o", "json", "-w", file)
		closes := closeMany(t, 2000)
		code, stderr := r.interrupt(t)
		reported := countLines(t, out, func(path, _ string) bool { return strings.HasPrefix(path, "close.") })
		const incomplete = "closetrace: the recording %s is incomplete: no space left on device"
		first := fmt.Sprintf(incomplete+"; tracing goes on\n", file)
		last := fmt.Sprintf(incomplete+"\nhint: closetrace replay shows what is in it\n", file)
		if code != 1 || !strings.HasPrefix(stderr, first) || !strings.HasSuffix(stderr, last) ||
			!strings.Contains(stderr, "\naudit: ") || reported+lost(stderr)+missed(stderr) < closes {
			t.Errorf("%d closes, %d reported, exit code %d, standard error:\n%s", closes, reported, code, stderr)
		}
	})
	path, err := program()
	must(t, err)
	replay := exec.Command(path, "replay", "-o", "json", file)
	shown, _ := replay.Output() // its exit code is looked at
	if code := replay.ProcessState.ExitCode(); code != 5 || bytes.Count(shown, []byte("\n")) < 20 {
		t.Errorf("replay: exit code %d, %s", code, shown)
	}
}

// Each signal that asks for the end gets a summary and a complete recording.
func TestEndingSignals(t *testing.T) {
	privileged(t)
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGQUIT} {
		file := filepath.Join(t.TempDir(), "a.rec")
		r := launch(t, "-w", file)
		must(t, r.Process.Signal(sig))
		code, stderr := r.interrupt(t)
		if code != 0 || !strings.Contains(stderr, " records lost, ") {
			t.Errorf("%s: exit code %d, %s", sig, code, stderr)
		}
		path, err := program()
		must(t, err)
		if out, err := exec.Command(path, "replay", file).CombinedOutput(); err != nil {
			t.Errorf("replay after %s: %v, %s", sig, err, out)
		}
	}
}

// SIGHUP does not end a closetrace that nohup(1) started.
func TestNoHangup(t *testing.T) {
	privileged(t)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Ignore(syscall.SIGHUP) // which the command inherits
		defer signal.Reset(syscall.SIGHUP)
	}
	r := launch(t)
	must(t, r.Process.Signal(syscall.SIGHUP))
	time.Sleep(time.Second) // that nothing happens is the point of the test
	if err := r.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatalf("it has ended: %v", err)
	}
	if code, stderr := r.interrupt(t); code != 0 {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// closetrace lives within 100 MB, which count the memory of its maps: it reports
// a burst in there. Where a larger ring buffer does not fit, it either says so or
// the kernel kills it, and nothing stays attached.
func TestMemoryLimit(t *testing.T) {
	privileged(t)
	group := memoryGroup(t, maxMemory<<10)
	inNetns(t, func(uint32) {
		out := outputFile(t)
		r := launchTo(t, out, "--netns", threadNetns(), "-o", "json")
		must(t, os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(itoa(r.Process.Pid)), 0))
		closes := closeMany(t, 20_000)
		code, stderr := r.interrupt(t)
		reported := countLines(t, out, func(path, _ string) bool { return strings.HasPrefix(path, "close.") })
		if code != 0 || reported+lost(stderr)+missed(stderr) < closes {
			t.Errorf("%d closes, %d reported, exit code %d, standard error:\n%s", closes, reported, code, stderr)
		}
	})
	path, err := program()
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVariable+"="+strings.Join(
		[]string{"join", group, path, "--duration", "1s", "--buffer-size", "256M", "--attach", *attach}, " "))
	out, _ := cmd.CombinedOutput() // how it ends is looked at
	killed := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	refused := cmd.ProcessState.ExitCode() == 1 && strings.Contains(string(out), "closetrace: not enough memory")
	switch why := mapsNotCharged(t); {
	case why == "" && !killed && !refused:
		t.Errorf("%v, with %s bytes charged at most: %s", cmd.ProcessState, mostMemory(group), out)
	case why != "" && cmd.ProcessState.ExitCode() != 0:
		t.Errorf("%s, and yet: %v, %s", why, cmd.ProcessState, out)
	case why != "":
		t.Logf("%s: the larger buffer fits, with %s bytes charged at most", why, mostMemory(group))
	}
	checkDetached(t, nil)
}

// joinGroup enters a cgroup and executes a program.
func joinGroup(args []string) error {
	if err := os.WriteFile(filepath.Join(args[0], "cgroup.procs"), []byte(itoa(os.Getpid())), 0); err != nil {
		return err
	}
	return unix.Exec(args[1], args[1:], nil)
}

// mapsNotCharged returns why the memory of BPF maps is not that of the cgroup: before 5.11 it is locked memory of the
// user, and there is a boot option. It returns "" if it is.
func mapsNotCharged(t testing.TB) string {
	t.Helper()
	if strings.Contains(readTrimmed(t, "/proc/cmdline"), "cgroup.memory=nobpf") {
		return "booted with cgroup.memory=nobpf"
	}
	c := beginChild(t, "locked")
	answer, err := c.stdout.ReadString('\n')
	must(t, err)
	must(t, c.Wait())
	if answer == "refused\n" {
		return "maps are locked memory of the user"
	}
	return ""
}

// createMapUnlocked prints whether a map is created if the user may lock no memory, which limits root, too.
func createMapUnlocked([]string) error {
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}); err != nil {
		return err
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	switch {
	case errors.Is(err, unix.EPERM):
		fmt.Println("refused")
		return nil
	case err != nil:
		return err
	}
	fmt.Println("created")
	return m.Close()
}

// mostMemory returns what a cgroup was charged with at most, in bytes, if the kernel has that (v1, or 5.19).
func mostMemory(group string) string {
	for _, file := range []string{"memory.max_usage_in_bytes", "memory.peak"} {
		if text, err := os.ReadFile(filepath.Join(group, file)); err == nil {
			return strings.TrimSpace(string(text))
		}
	}
	return "an unknown number of"
}

// memoryGroup returns a cgroup with a limit on memory.
func memoryGroup(t testing.TB, limit int) string {
	t.Helper()
	controllers, err := os.ReadFile("/proc/cgroups")
	must(t, err)
	if !strings.Contains(string(controllers), "\nmemory\t") {
		t.Skip("this kernel has no memory controller")
	}
	if emulated() { // the kernel of this test alone
		const control = "/sys/fs/cgroup/cgroup.subtree_control"
		if err := os.WriteFile(control, []byte("+memory"), 0); err != nil {
			t.Logf("no memory controller for cgroups: %v", err)
		}
		t.Cleanup(func() { _ = os.WriteFile(control, []byte("-memory"), 0) })
	}
	for _, limited := range []string{"memory/memory.limit_in_bytes", "memory.max"} {
		top, file := filepath.Split(filepath.Join("/sys/fs/cgroup", limited))
		group := filepath.Join(top, "closetrace-memory-"+itoa(os.Getpid()))
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(group, file)); err == nil { // otherwise top is no cgroup
			must(t, os.WriteFile(filepath.Join(group, file), []byte(itoa(limit)), 0))
			t.Cleanup(func() {
				eventually(t, "an empty cgroup", func() bool { return unix.Rmdir(group) == nil })
			})
			return group
		}
		must(t, os.Remove(group))
	}
	t.Skip("no hierarchy with the memory controller is mounted, or it is not delegated to /sys/fs/cgroup")
	return ""
}
