//go:build linux

package live

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/lab"
)

// nobody has no rights but those that are given.
const nobody = 65534

// run is a closetrace whose endings are read as they come.
type run struct {
	cmd     *exec.Cmd
	mu      sync.Mutex
	endings []lab.Seen
	said    []string // on standard error, line by line
	read    sync.WaitGroup
}

// running starts closetrace as prepare says and waits until it traces, or has
// ended.
func running(t testing.TB, prepare func(*exec.Cmd), args ...string) *run {
	t.Helper()
	privileged(t)
	if level, err := strconv.Atoi(readable(t, paranoia)); err == nil && level > 2 {
		must(t, os.WriteFile(paranoia, []byte("2"), 0)) // see TestParanoidKernel
		t.Cleanup(func() { must(t, os.WriteFile(paranoia, []byte(strconv.Itoa(level)), 0)) })
	}
	usualMemlock(t)
	r := &run{cmd: exec.Command(forAll(t), append(args, "-o", "json", "--attach", *attach)...)}
	r.cmd.Dir = "/"
	prepare(r.cmd)
	stdout, err := r.cmd.StdoutPipe()
	must(t, err)
	stderr, err := r.cmd.StderrPipe()
	must(t, err)
	must(t, r.cmd.Start())
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil { // the test gave up on it
			r.interrupt(t)
		}
	})
	ready := make(chan struct{})
	r.read.Go(func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			one, err := lab.ReadSeen(lines.Bytes())
			if err != nil {
				t.Errorf("%v in %q", err, lines.Text())
			}
			r.mu.Lock()
			r.endings = append(r.endings, one)
			r.mu.Unlock()
		}
	})
	r.read.Go(func() {
		attached := sync.OnceFunc(func() { close(ready) })
		defer attached()
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			r.mu.Lock()
			r.said = append(r.said, lines.Text())
			r.mu.Unlock()
			if strings.HasPrefix(lines.Text(), "closetrace: tracing on ") {
				attached()
			}
		}
	})
	<-ready
	return r
}

// text is what was said so far.
func (r *run) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.said, "\n")
}

// sees waits for an ending and returns its decoded JSON form.
func (r *run) sees(t testing.TB, path string, of conn) map[string]any {
	t.Helper()
	var fields map[string]any
	eventually(t, path, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, e := range r.endings {
			if e.Path == path && e.Local == of.local && e.Remote == of.remote {
				fields = e.Fields
			}
		}
		return fields != nil
	})
	return fields
}

// interrupt ends it and returns its exit code.
func (r *run) interrupt(t testing.TB) int {
	t.Helper()
	must(t, r.cmd.Process.Signal(os.Interrupt))
	r.read.Wait()
	countMissed(t, uint64(missed(r.text())))
	return ends(t, r.cmd)
}

// ended ends it in good order.
func (r *run) ended(t testing.TB) {
	t.Helper()
	if code := r.interrupt(t); code != 0 {
		t.Errorf("exit code %d: %s", code, r.text())
	}
	if !strings.Contains(r.text(), "audit: RSTs sent ") {
		t.Errorf("no audit:\n%s", r.text())
	}
}

// forAll is closetrace where everybody may execute it.
func forAll(t testing.TB) string {
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

// asNobody is with these capabilities and no others.
func asNobody(capabilities ...cap.Value) func(*exec.Cmd) {
	var ambient []uintptr
	for _, c := range capabilities {
		ambient = append(ambient, uintptr(c))
	}
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: ambient,
		}
	}
}

// required are the capabilities without which there is no tracing here.
func required(t testing.TB) []cap.Value {
	t.Helper()
	all := []cap.Value{cap.BPF, cap.PERFMON}
	if chargesLockedMemory() {
		all = append(all, cap.SYS_RESOURCE)
	}
	return all
}

// chargesLockedMemory: before 5.11 maps count against RLIMIT_MEMLOCK.
func chargesLockedMemory() bool {
	var major, minor int
	_, _ = fmt.Sscanf(kernel.Release(), "%d.%d", &major, &minor)
	return major < 5 || major == 5 && minor < 11
}

// usualMemlock sets the limit on locked memory, which a program that is started
// inherits, to what it is on kernels that go by it. Tests that trace have lifted
// it.
func usualMemlock(t testing.TB) {
	t.Helper()
	if !chargesLockedMemory() {
		return
	}
	var before unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &before))
	must(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 64 << 10, Max: 64 << 10}))
	t.Cleanup(func() { must(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &before)) })
}

// What is required suffices, and all verdicts are there.
func TestLeastPrivilege(t *testing.T) { attempts(t, leastPrivilege) }

func leastPrivilege(t testing.TB) {
	r := running(t, asNobody(required(t)...))
	a, b := connectOn(t)
	b.send(t, 7)
	a.queued(t, 7)
	must(t, unix.Close(a.fd))
	must(t, unix.Close(b.fd))
	unread := r.sees(t, "close.rst.unread", a)
	if unread["confidence"] != "observed" {
		t.Errorf("%v", unread)
	}
	if got := r.sees(t, "recv.rst", b); got["owner"] != nil {
		t.Errorf("who holds a socket of root is none of nobody's business, but: %v", got["owner"])
	}
	r.ended(t)
	for _, name := range []string{"CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"} {
		if strings.Count(r.text(), name) != 1 {
			t.Errorf("want it said once what is not seen without %s:\n%s", name, r.text())
		}
	}
}

// connectOn is connect with a listener of its own, which is closed.
func connectOn(t testing.TB) (a, b conn) {
	t.Helper()
	l, at := listen(t, loopback4)
	a, b = connect(t, l, at)
	must(t, unix.Close(l))
	return a, b
}

// Without any one of what is required: one line that names it, a hint, and the
// exit code for it.
func TestPrivilegeMissing(t *testing.T) {
	for _, missing := range required(t) {
		usualMemlock(t)
		others := slices.DeleteFunc(required(t), func(c cap.Value) bool { return c == missing })
		for _, command := range [][]string{{"trace", "--duration", "1s"}, {"check"}} {
			cmd := exec.Command(forAll(t), command...)
			cmd.Dir = "/"
			asNobody(others...)(cmd)
			var said strings.Builder
			cmd.Stderr = &said
			_ = cmd.Run() // its exit code is looked at
			lines := strings.Split(strings.TrimSpace(said.String()), "\n")
			name := strings.ToUpper(missing.String())
			if cmd.ProcessState.ExitCode() != 3 || len(lines) != 2 || !strings.HasSuffix(lines[0], ": "+name+" missing") ||
				!strings.HasPrefix(lines[1], "hint: ") {
				t.Errorf("%v without %s: exit code %d, %s", command, name, cmd.ProcessState.ExitCode(), &said)
			}
		}
	}
}

// Who holds a socket of another user is found with both capabilities for /proc,
// and not with one of them.
func TestOwnersTakePrivileges(t *testing.T) { attempts(t, ownersTakePrivileges) }

func ownersTakePrivileges(t testing.TB) {
	both := []cap.Value{cap.DAC_READ_SEARCH, cap.SYS_PTRACE}
	for _, with := range [][]cap.Value{both, both[:1], both[1:]} {
		r := running(t, asNobody(append(required(t), with...)...))
		if found := r.findsOwner(t); found != (len(with) == 2) {
			t.Errorf("with %v: owner found: %v", with, found)
		}
		r.ended(t)
	}
}

// findsOwner tells whether it is found that this process holds sockets that are
// reset. On a slow machine the look-up may take longer than an event waits for
// it; then a later one has its result, as all sockets are there from the start.
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
		owner, _ := r.sees(t, "recv.rst", b)["owner"].(map[string]any)
		found = found || owner != nil && owner["pid"] == json.Number(fmt.Sprint(os.Getpid()))
		must(t, unix.Close(b.fd))
	}
	return found
}

// A timer's RST is known by the kernel's stack, whose names take CAP_SYSLOG; the
// right to them may be given up before they are looked up.
func TestNamesTakePrivileges(t *testing.T) { attempts(t, namesTakePrivileges) }

func namesTakePrivileges(t testing.TB) {
	if readable(t, paranoia) <= "1" && readable(t, "/proc/sys/kernel/kptr_restrict") == "0" {
		t.Skip("this kernel shows its addresses to everybody")
	}
	sc, err := lab.Find("abort.keepalive")
	must(t, err)
	for _, c := range []struct {
		with []cap.Value
		want string
	}{{nil, "inferred"}, {[]cap.Value{cap.SYSLOG}, "observed"}} {
		r := running(t, asNobody(append(required(t), c.with...)...))
		_, err := sc.Run(t.Context(), func(res *lab.Result) {
			end := res.Sockets["A"]
			got := r.sees(t, "abort.keepalive", conn{local: end.Local, remote: end.Remote})
			if got["confidence"] != c.want {
				t.Errorf("with %v: %v, want %s", c.with, got["confidence"], c.want)
			}
		})
		must(t, err)
		r.ended(t)
	}
}

const paranoia = "/proc/sys/kernel/perf_event_paranoid"

// The kernels of Debian and Ubuntu take CAP_SYS_ADMIN for kprobes at the levels
// above 2, which others do not have. It is said what is in the way.
func TestParanoidKernel(t *testing.T) {
	privileged(t)
	level := readable(t, paranoia)
	if *attach != "kprobe" || level <= "2" {
		t.Skipf("%s mode at level %s: not in the way", *attach, level)
	}
	var said strings.Builder
	cmd := exec.Command(forAll(t), "--attach", "kprobe", "--duration", "1s")
	asNobody(required(t)...)(cmd)
	cmd.Dir, cmd.Stderr = "/", &said
	_ = cmd.Run() // its exit code is looked at
	if cmd.ProcessState.ExitCode() != 3 || !strings.Contains(said.String(), "kernel.perf_event_paranoid is "+level) {
		t.Errorf("exit code %d, %s", cmd.ProcessState.ExitCode(), &said)
	}
	cmd = exec.Command(forAll(t), "--attach", "kprobe", "--duration", "1s")
	cmd.Dir = "/"
	asNobody(append(required(t), cap.SYS_ADMIN)...)(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("with CAP_SYS_ADMIN: %v, %s", err, out)
	}
}

func readable(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return strings.TrimSpace(string(text))
}

// The counters of another network namespace take CAP_SYS_ADMIN, which is kept
// for them to the end.
func TestNetnsTakesPrivileges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "netns")
	must(t, os.WriteFile(file, nil, 0o644))
	inNetns(t, func(uint32) { must(t, unix.Mount("/proc/thread-self/ns/net", file, "", unix.MS_BIND, "")) })
	defer unix.Unmount(file, unix.MNT_DETACH)
	r := running(t, asNobody(append(required(t), cap.SYS_ADMIN)...), "--netns", file)
	checkCapabilities(t, r.cmd.Process.Pid, cap.BPF, cap.SYS_ADMIN)
	r.ended(t)

	r = running(t, asNobody(required(t)...), "--netns", file)
	if code := r.interrupt(t); code != 0 || !strings.Contains(r.text(), "audit: not possible: ") {
		t.Errorf("without it: exit code %d, %s", code, r.text())
	}
}

// Once attached, every thread has given up what is not needed any more, also
// where root started it.
func TestPrivilegesAreDropped(t *testing.T) { attempts(t, privilegesAreDropped) }

func privilegesAreDropped(t testing.TB) {
	kept := []cap.Value{cap.BPF, cap.DAC_READ_SEARCH, cap.SYS_PTRACE}
	r := running(t, func(*exec.Cmd) {})
	checkCapabilities(t, r.cmd.Process.Pid, kept...)
	if !r.findsOwner(t) {
		t.Error("no owner is found")
	}
	checkCapabilities(t, r.cmd.Process.Pid, kept...)
	r.ended(t)

	r = running(t, asNobody(required(t)...))
	checkCapabilities(t, r.cmd.Process.Pid, cap.BPF)
	r.ended(t)
}

// checkCapabilities: every thread has these and no others, permitted and in
// effect, and none that a program it starts would get.
func checkCapabilities(t testing.TB, pid int, want ...cap.Value) {
	t.Helper()
	var bits uint64
	for _, c := range want {
		bits |= 1 << c
	}
	set := fmt.Sprintf("%016x", bits)
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	must(t, err)
	if len(files) < 2 {
		t.Errorf("%d threads", len(files))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		for _, line := range []string{"CapPrm:\t" + set, "CapEff:\t" + set, "CapAmb:\t" + fmt.Sprintf("%016x", 0)} {
			if !strings.Contains(string(text), line+"\n") {
				t.Errorf("%s: want %q in\n%s", file, line, text)
			}
		}
	}
}

// The README's two ways to do without full root: capabilities of the file, and
// those of a container that sees nothing but /proc and /sys.
func TestFileCapabilities(t *testing.T) { attempts(t, fileCapabilities) }

func fileCapabilities(t testing.TB) {
	r := running(t, func(cmd *exec.Cmd) {
		set := documented(t)
		must(t, set.SetFile(cmd.Path))
		asNobody()(cmd)
	})
	tracesFully(t, r)
}

func TestContainer(t *testing.T) { attempts(t, inContainer) }

func inContainer(t testing.TB) {
	privileged(t)
	var r *run
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: its rights are not ours
		r = running(t, contained(t))
	}()
	<-done
	if !t.Failed() {
		tracesFully(t, r)
	}
}

// documented is what the README gives.
func documented(t testing.TB) *cap.Set {
	t.Helper()
	set, err := cap.FromText(kernel.FileCapabilities)
	must(t, err)
	if chargesLockedMemory() {
		must(t, set.SetFlag(cap.Permitted, true, cap.SYS_RESOURCE))
		must(t, set.SetFlag(cap.Effective, true, cap.SYS_RESOURCE))
	}
	return set
}

// contained makes the directory of a program a root with nothing else in it but
// /proc and /sys, and takes from root all but the README's capabilities.
func contained(t testing.TB) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		root := filepath.Dir(cmd.Path)
		must(t, unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS))
		must(t, unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		for dir, kind := range map[string]string{"proc": "proc", "sys": "sysfs"} {
			must(t, os.Mkdir(filepath.Join(root, dir), 0o755))
			must(t, unix.Mount(kind, filepath.Join(root, dir), kind, unix.MS_RDONLY, ""))
		}
		given := documented(t)
		for c := range cap.MaxBits() {
			if is, err := given.GetFlag(cap.Permitted, c); err == nil && !is {
				_ = unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0) // EINVAL: this kernel has no such
			}
		}
		cmd.Path = "/closetrace"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	}
}

// tracesFully: nothing is missing, and owners are found.
func tracesFully(t testing.TB, r *run) {
	t.Helper()
	if !r.findsOwner(t) {
		t.Error("no owner is found")
	}
	r.ended(t)
	if strings.Contains(r.text(), "not seen") {
		t.Errorf("something is not seen:\n%s", r.text())
	}
}
