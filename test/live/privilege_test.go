//go:build linux

package live

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/lab"
)

// nobodyUID is a user without privileges.
const nobodyUID = 65534

// allowKprobes lets users with CAP_PERFMON use kprobes until the test ends: see
// TestParanoidKernel.
func allowKprobes(t testing.TB) {
	t.Helper()
	if level, err := strconv.Atoi(readTrimmed(t, paranoidSysctl)); err == nil && level > 2 {
		must(t, os.WriteFile(paranoidSysctl, []byte("2"), 0))
		t.Cleanup(func() { must(t, os.WriteFile(paranoidSysctl, []byte(strconv.Itoa(level)), 0)) })
	}
}

// executableByAll returns a copy of closetrace that every user may execute.
func executableByAll(t testing.TB) string {
	t.Helper()
	path, err := program()
	must(t, err)
	copied := filepath.Join(t.TempDir(), "closetrace")
	for dir := filepath.Dir(copied); dir != "/"; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && st.Mode()&0o5 != 0o5 {
			must(t, os.Chmod(dir, st.Mode()|0o5))
		}
	}
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(copied, text, 0o755))
	must(t, os.Chmod(copied, 0o755))
	return copied
}

// asNobody runs a command as a user without privileges, with exactly these
// capabilities.
func asNobody(capabilities ...cap.Value) func(*exec.Cmd) {
	var ambient []uintptr
	for _, c := range capabilities {
		ambient = append(ambient, uintptr(c))
	}
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: nobodyUID, Gid: nobodyUID}, AmbientCaps: ambient,
		}
	}
}

// requiredCapabilities returns the capabilities without which closetrace cannot
// trace on this kernel.
func requiredCapabilities(t testing.TB) []cap.Value {
	t.Helper()
	all := []cap.Value{cap.BPF, cap.PERFMON}
	if chargesLockedMemory() {
		all = append(all, cap.SYS_RESOURCE)
	}
	return all
}

// chargesLockedMemory reports whether maps count against RLIMIT_MEMLOCK, as
// before 5.11.
func chargesLockedMemory() bool {
	var major, minor int
	_, _ = fmt.Sscanf(kernel.Release(), "%d.%d", &major, &minor)
	return major < 5 || major == 5 && minor < 11
}

// defaultMemlock sets the limit on locked memory, which a command inherits, to
// its default on kernels that charge maps. Tests that trace have raised it.
func defaultMemlock(t testing.TB) {
	t.Helper()
	if !chargesLockedMemory() {
		return
	}
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &before))
	must(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 64 << 10, Max: 64 << 10}))
	t.Cleanup(func() { must(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &before)) })
}

// The required capabilities are enough for every verdict.
func TestLeastPrivilege(t *testing.T) { attempts(t, leastPrivilege) }

func leastPrivilege(t testing.TB) {
	r := startReading(t, asNobody(requiredCapabilities(t)...))
	a, b := connectOn(t)
	b.send(t, 7)
	a.queued(t, 7)
	must(t, unix.Close(a.fd))
	unread := r.waitFor(t, "close.rst.unread", a)
	if unread["confidence"] != "observed" {
		t.Errorf("%v", unread)
	}
	if got := r.waitFor(t, "recv.rst", b); got["owner_by"] == "proc" {
		t.Errorf("user nobody sees the holder of root's socket: %v", got["owner"])
	}
	must(t, unix.Close(b.fd)) // not before: a call within 100 ms names the owner without /proc
	r.finish(t)
	for _, name := range []string{"CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"} {
		if strings.Count(r.stderrText(), name) != 1 {
			t.Errorf("want one line with what is hidden without %s:\n%s", name, r.stderrText())
		}
	}
}

// connectOn connects to a new listener, and closes that.
func connectOn(t testing.TB) (a, b conn) {
	t.Helper()
	l, addr := listen(t, loopback4)
	a, b = connect(t, l, addr)
	must(t, unix.Close(l))
	return a, b
}

// Without one of the required capabilities, closetrace prints one line that names
// it and a hint, and exits with code 3.
func TestPrivilegeMissing(t *testing.T) {
	for _, missing := range requiredCapabilities(t) {
		defaultMemlock(t)
		others := slices.DeleteFunc(requiredCapabilities(t), func(c cap.Value) bool { return c == missing })
		for _, command := range [][]string{{"trace", "--duration", "1s"}, {"check"}} {
			cmd := exec.Command(executableByAll(t), command...)
			cmd.Dir = "/"
			asNobody(others...)(cmd)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			_ = cmd.Run() // its exit code is looked at
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			name := strings.ToUpper(missing.String())
			if cmd.ProcessState.ExitCode() != 3 || len(lines) != 2 || !strings.HasSuffix(lines[0], ": "+name+" missing") ||
				!strings.HasPrefix(lines[1], "hint: ") {
				t.Errorf("%v without %s: exit code %d, %s", command, name, cmd.ProcessState.ExitCode(), &stderr)
			}
		}
	}
}

// The holder of another user's socket is found with both capabilities for /proc,
// and not with one of them.
func TestOwnersNeedPrivileges(t *testing.T) { attempts(t, ownersNeedPrivileges) }

func ownersNeedPrivileges(t testing.TB) {
	both := []cap.Value{cap.DAC_READ_SEARCH, cap.SYS_PTRACE}
	for _, with := range [][]cap.Value{both, both[:1], both[1:]} {
		r := startReading(t, asNobody(append(requiredCapabilities(t), with...)...))
		if found := r.findsOwner(t); found != (len(with) == 2) {
			t.Errorf("with %v: owner found: %v", with, found)
		}
		r.finish(t)
	}
}

// findsOwner reports whether closetrace finds that this process holds sockets
// that are reset. On a slow machine the lookup may take longer than an event
// waits for it. A later event then has the result, as all sockets exist from the
// start.
func (r *run) findsOwner(t testing.TB) (found bool) {
	t.Helper()
	var pairs [8][2]conn
	for i := range pairs {
		pairs[i][0], pairs[i][1] = connectOn(t)
	}
	for _, pair := range pairs {
		a, b := pair[0], pair[1]
		a.linger(t, 0)
		must(t, unix.Close(a.fd))
		owner, _ := r.waitFor(t, "recv.rst", b)["owner"].(map[string]any)
		found = found || owner != nil && owner["pid"] == json.Number(fmt.Sprint(os.Getpid()))
		must(t, unix.Close(b.fd))
	}
	return found
}

// A timer's RST is recognized by the kernel stack, whose names need CAP_SYSLOG.
// closetrace may drop that capability before it looks them up.
func TestNamesNeedPrivileges(t *testing.T) { attempts(t, namesNeedPrivileges) }

func namesNeedPrivileges(t testing.TB) {
	if readTrimmed(t, paranoidSysctl) <= "1" && readTrimmed(t, "/proc/sys/kernel/kptr_restrict") == "0" {
		t.Skip("this kernel shows its addresses to everybody")
	}
	sc, err := lab.Find("abort.keepalive")
	must(t, err)
	for _, c := range []struct {
		with []cap.Value
		want string
	}{{nil, "inferred"}, {[]cap.Value{cap.SYSLOG}, "observed"}} {
		r := startReading(t, asNobody(append(requiredCapabilities(t), c.with...)...))
		_, err := sc.Run(t.Context(), func(res *lab.Result) {
			end := res.Sockets["A"]
			got := r.waitFor(t, "abort.keepalive", conn{local: end.Local, remote: end.Remote})
			if got["confidence"] != c.want {
				t.Errorf("with %v: %v, want %s", c.with, got["confidence"], c.want)
			}
		})
		must(t, err)
		r.finish(t)
	}
}

const paranoidSysctl = "/proc/sys/kernel/perf_event_paranoid"

// At perf_event_paranoid levels above 2, which only Debian's and Ubuntu's kernels
// have, kprobes need CAP_SYS_ADMIN. The error names the sysctl.
func TestParanoidKernel(t *testing.T) {
	privileged(t)
	level := readTrimmed(t, paranoidSysctl)
	if *attach != "kprobe" || level <= "2" {
		t.Skipf("%s mode at level %s: not in the way", *attach, level)
	}
	var stderr strings.Builder
	cmd := exec.Command(executableByAll(t), "--attach", "kprobe", "--duration", "1s")
	asNobody(requiredCapabilities(t)...)(cmd)
	cmd.Dir, cmd.Stderr = "/", &stderr
	_ = cmd.Run() // its exit code is looked at
	if cmd.ProcessState.ExitCode() != 3 || !strings.Contains(stderr.String(), "kernel.perf_event_paranoid is "+level) {
		t.Errorf("exit code %d, %s", cmd.ProcessState.ExitCode(), &stderr)
	}
	cmd = exec.Command(executableByAll(t), "--attach", "kprobe", "--duration", "1s")
	cmd.Dir = "/"
	asNobody(append(requiredCapabilities(t), cap.SYS_ADMIN)...)(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("with CAP_SYS_ADMIN: %v, %s", err, out)
	}
}

func readTrimmed(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return strings.TrimSpace(string(text))
}

// The counters of another network namespace need CAP_SYS_ADMIN, which closetrace
// keeps until it ends.
func TestNetnsNeedsPrivileges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "netns")
	must(t, os.WriteFile(file, nil, 0o644))
	inNetns(t, func(uint32) { must(t, unix.Mount("/proc/thread-self/ns/net", file, "", unix.MS_BIND, "")) })
	defer unix.Unmount(file, unix.MNT_DETACH)
	r := startReading(t, asNobody(append(requiredCapabilities(t), cap.SYS_ADMIN)...), "--netns", file)
	checkCapabilities(t, r.cmd.Process.Pid, cap.BPF, cap.SYS_ADMIN)
	r.finish(t)

	r = startReading(t, asNobody(requiredCapabilities(t)...), "--netns", file)
	if code := r.interrupt(t); code != 0 || !strings.Contains(r.stderrText(), "audit skipped: ") {
		t.Errorf("without it: exit code %d, %s", code, r.stderrText())
	}
}

// The README has two ways without full root: file capabilities, and a container
// that has only /proc and /sys.
func TestFileCapabilities(t *testing.T) { attempts(t, fileCapabilities) }

func fileCapabilities(t testing.TB) {
	r := startReading(t, func(cmd *exec.Cmd) {
		set := documentedCapabilities(t)
		must(t, set.SetFile(cmd.Path))
		asNobody()(cmd)
	})
	checkFullTrace(t, r)
}

func TestContainer(t *testing.T) { attempts(t, inContainer) }

func inContainer(t testing.TB) {
	privileged(t)
	var r *run
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: its rights are not ours
		r = startReading(t, inMinimalRoot(t))
	}()
	<-done
	if !t.Failed() {
		checkFullTrace(t, r)
	}
}

// documentedCapabilities returns the capabilities of the README.
func documentedCapabilities(t testing.TB) *cap.Set {
	t.Helper()
	set, err := cap.FromText(kernel.FileCapabilities)
	must(t, err)
	if chargesLockedMemory() {
		must(t, set.SetFlag(cap.Permitted, true, cap.SYS_RESOURCE))
		must(t, set.SetFlag(cap.Effective, true, cap.SYS_RESOURCE))
	}
	return set
}

// inMinimalRoot makes the directory of a program its root, with only /proc and
// /sys in it, and drops all capabilities but those of the README.
func inMinimalRoot(t testing.TB) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		root := filepath.Dir(cmd.Path)
		must(t, unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS))
		must(t, unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		for dir, kind := range map[string]string{"proc": "proc", "sys": "sysfs"} {
			must(t, os.Mkdir(filepath.Join(root, dir), 0o755))
			must(t, unix.Mount(kind, filepath.Join(root, dir), kind, unix.MS_RDONLY, ""))
		}
		given := documentedCapabilities(t)
		for c := range cap.MaxBits() {
			if is, err := given.GetFlag(cap.Permitted, c); err == nil && !is {
				_ = unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0) // EINVAL: this kernel has no such
			}
		}
		cmd.Path = "/closetrace"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	}
}

// checkFullTrace fails unless owners are found and nothing is hidden but what netfilter
// sends: only CAP_SYS_ADMIN may look for the types of a module, which fentry needs.
func checkFullTrace(t testing.TB, r *run) {
	t.Helper()
	if !r.findsOwner(t) {
		t.Error("no owner is found")
	}
	r.finish(t)
	text := r.stderrText()
	for line := range strings.Lines(text) {
		hidden := strings.Contains(line, "unseen") || strings.Contains(line, "missing")
		if hidden && !strings.Contains(line, "nf_send_reset") {
			t.Errorf("something is hidden:\n%s", text)
		}
	}
}
