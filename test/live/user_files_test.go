//go:build linux

package live

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/enrich"
)

// With the file capabilities of docs/privileges.md, a user who may execute
// closetrace can neither read nor write files of other users with it, nor find out
// whether they exist.
func TestFilesOfOtherUsers(t *testing.T) {
	privileged(t)
	allowKprobes(t)
	path := executableByAll(t)
	set := documentedCapabilities(t)
	must(t, set.SetFile(path))
	public := filepath.Dir(path)
	made := filepath.Join(public, "made")
	record := exec.Command(path, "--duration", "100ms", "--attach", *attach, "-w", made)
	if out, err := record.CombinedOutput(); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	recording, err := os.ReadFile(made)
	must(t, err)
	private := filepath.Join(public, "private")
	must(t, os.Mkdir(private, 0o700))
	inPrivate := filepath.Join(private, "there") // that anybody could read and write if private were public
	unreadable := filepath.Join(public, "unreadable")
	for file, mode := range map[string]os.FileMode{inPrivate: 0o666, unreadable: 0o600} {
		must(t, os.WriteFile(file, recording, mode))
		must(t, os.Chmod(file, mode))
	}
	absent := filepath.Join(private, "none")

	for name, args := range map[string][]string{
		"replay":    {"replay"},
		"why":       {"why", "443", "--wait=false", "--from"},
		"since":     {"stuck", "--since"},
		"write":     {"--duration", "1s", "--attach", *attach, "--force", "-w"},
		"namespace": {"--duration", "1s", "--attach", *attach, "--netns"},
	} {
		t.Run(name, func(t *testing.T) {
			denied := refusalAsNobody(t, path, append(args, inPrivate)...)
			without := refusalAsNobody(t, path, append(args, absent)...)
			if strings.ReplaceAll(without, absent, inPrivate) != denied {
				t.Errorf("a file that is there: %sone that is not: %s", denied, without)
			}
			refusalAsNobody(t, path, append(args, unreadable)...)
		})
	}
	// The library of the command line would append to it.
	completes := exec.Command(path, "__complete", "--no-such-flag", "")
	asNobody()(completes)
	completes.Dir, completes.Env = "/", []string{"BASH_COMP_DEBUG_FILE=" + inPrivate}
	if out, err := completes.CombinedOutput(); err != nil {
		t.Errorf("completion: %v, %s", err, out)
	}
	for _, file := range []string{inPrivate, unreadable} {
		if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, recording) {
			t.Errorf("%s was changed: %v", file, err)
		}
	}
}

// refusalAsNobody runs closetrace as a user without privileges, fails unless it
// says that permission is denied, and returns what it says.
func refusalAsNobody(t testing.TB, path string, args ...string) string {
	t.Helper()
	cmd := exec.Command(path, args...)
	asNobody()(cmd)
	cmd.Dir = "/"
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil || stdout.Len() > 0 || !strings.Contains(stderr.String(), "permission denied") {
		t.Errorf("%v: %v, standard output %q, standard error %q", args, err, &stdout, &stderr)
	}
	return stderr.String()
}

// The same holds for the command of run, which such a user can start in a cgroup
// of its own.
func TestCommandOfOtherUsers(t *testing.T) {
	privileged(t)
	allowKprobes(t)
	path := executableByAll(t)
	set := documentedCapabilities(t)
	must(t, set.SetFile(path))
	private := filepath.Join(filepath.Dir(path), "private")
	must(t, os.Mkdir(private, 0o700))
	hidden := filepath.Join(private, "program")
	must(t, os.Symlink(path, hidden))
	m, err := enrich.FindCgroups("/proc")
	must(t, err)
	group := filepath.Join(m.Dir, "closetrace-delegated-"+itoa(os.Getpid()))
	must(t, os.Mkdir(group, 0o755))
	t.Cleanup(func() { must(t, unix.Rmdir(group)) })
	for _, file := range []string{group, filepath.Join(group, "cgroup.procs")} {
		must(t, os.Chown(file, nobodyUID, nobodyUID))
	}
	dir, err := os.Open(group)
	must(t, err)
	defer dir.Close()
	for command, want := range map[string]int{path: 0, hidden: 126, filepath.Join(private, "none"): 126} {
		cmd := exec.Command(path, "run", "--attach", *attach, "--", command, "--version")
		asNobody()(cmd)
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
		cmd.Dir = "/"
		out, _ := cmd.CombinedOutput() // its exit code is looked at
		if code := cmd.ProcessState.ExitCode(); code != want ||
			strings.Contains(string(out), "permission denied") != (want == 126) {
			t.Errorf("%s: exit code %d, want %d; %s", command, code, want, out)
		}
	}
}

// A recording that such a user makes belongs to the user alone, who can replay it
// and take ages from it.
func TestFilesOfTheUser(t *testing.T) {
	privileged(t)
	allowKprobes(t)
	path := executableByAll(t)
	set := documentedCapabilities(t)
	must(t, set.SetFile(path))
	dir := filepath.Join(filepath.Dir(path), "own")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Chown(dir, nobodyUID, nobodyUID))
	file := filepath.Join(dir, "a.zst")
	for _, args := range [][]string{
		{"--duration", (100 * time.Millisecond).String(), "--attach", *attach, "-w", file}, {"replay", file}, {"stuck", "--since", file},
	} {
		cmd := exec.Command(path, args...)
		asNobody()(cmd)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v, %s", args, err, out)
		}
	}
	for _, user := range []func(*exec.Cmd){asNobody(), func(*exec.Cmd) {}} {
		rotates(t, path, dir, user)
	}
	var st unix.Stat_t
	must(t, unix.Stat(file, &st))
	if st.Uid != nobodyUID || st.Mode != unix.S_IFREG|0o600 {
		t.Errorf("user %d, mode %o", st.Uid, st.Mode)
	}
}

// rotates checks that a user who may write to a directory, or root, can record to several files there after privileges
// were dropped, and delete old ones.
func rotates(t *testing.T, path, dir string, user func(*exec.Cmd)) {
	t.Helper()
	cmd := exec.Command(path, "record", "-w", "ring.rec", "-G", "100ms", "-W", "2", "--force", "--attach", *attach)
	user(cmd)
	cmd.Dir = dir
	pipe, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	stderr := bufio.NewReader(pipe)
	for line := ""; !strings.HasPrefix(line, "closetrace: tracing on "); {
		line, err = stderr.ReadString('\n')
		must(t, err)
	}
	ring := func() (names []string) {
		names, err := filepath.Glob(filepath.Join(dir, "ring-*"))
		must(t, err)
		return names
	}
	l, addr := listen(t, loopback4)
	first := ""
	eventually(t, "two later files", func() bool {
		endingsOf(t, l, addr)
		names := ring()
		if len(names) > 0 && first == "" {
			first = names[0]
		}
		return len(names) == 2 && names[0] > first
	})
	must(t, unix.Close(l))
	must(t, cmd.Process.Signal(os.Interrupt))
	rest, err := io.ReadAll(stderr)
	must(t, err)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v, %s", err, rest)
	}
	replay := exec.Command(path, append([]string{"replay", "-o", "json"}, ring()...)...)
	user(replay)
	if out, err := replay.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("closetrace: replay of 2 files")) {
		t.Errorf("replay: %v, %s", err, out)
	}
	for _, name := range ring() {
		must(t, os.Remove(name))
	}
}
