//go:build linux

package live

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// After attaching, every thread has dropped the capabilities that it does not
// need, also if root started it.
func TestPrivilegesAreDropped(t *testing.T) { attempts(t, privilegesAreDropped) }

func privilegesAreDropped(t testing.TB) {
	kept := []cap.Value{cap.BPF, cap.DAC_READ_SEARCH, cap.SYS_PTRACE}
	r := startReading(t, func(*exec.Cmd) {})
	checkCapabilities(t, r.cmd.Process.Pid, kept...)
	if !r.findsOwner(t) {
		t.Error("no owner is found")
	}
	checkCapabilities(t, r.cmd.Process.Pid, kept...)
	r.finish(t)

	r = startReading(t, asNobody(requiredCapabilities(t)...))
	checkCapabilities(t, r.cmd.Process.Pid, cap.BPF)
	r.finish(t)
}

// closetrace run and stuck --watch drop theirs as well. The command of run keeps
// what it has without closetrace.
func TestPrivilegesOfRunAndWatchAreDropped(t *testing.T) {
	privileged(t)
	path, err := program()
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	command := exec.Command(path, "run", "--attach", *attach, "--", self)
	command.Env = append(os.Environ(), childVariable+"=idle")
	stdin, err := command.StdinPipe()
	must(t, err)
	must(t, command.Start())
	t.Cleanup(func() { command.Process.Kill() })
	var child int
	eventually(t, "the command runs", func() bool {
		child = childOf(t, command.Process.Pid, self)
		return child != 0
	})
	eventually(t, "dropped", func() bool {
		return strings.Contains(readTrimmed(t, fmt.Sprintf("/proc/%d/status", command.Process.Pid)), "NoNewPrivs:\t1")
	})
	kept := []cap.Value{cap.BPF, cap.DAC_OVERRIDE, cap.DAC_READ_SEARCH, cap.SYS_PTRACE, cap.KILL}
	eventually(t, "capabilities of run", func() bool {
		return len(otherCapabilities(t, command.Process.Pid, kept...)) == 0
	})
	own, others := readTrimmed(t, "/proc/self/status"), readTrimmed(t, fmt.Sprintf("/proc/%d/status", child))
	for line := range strings.Lines(own) {
		if (strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs")) && !strings.Contains(others, line) {
			t.Errorf("the command does not have %q:\n%s", line, others)
		}
	}
	must(t, stdin.Close())
	if code := waitExit(t, command); code != 0 {
		t.Errorf("exit code %d", code)
	}

	watch := exec.Command(path, "stuck", "--watch", "1h")
	stdout, err := watch.StdoutPipe()
	must(t, err)
	must(t, watch.Start())
	t.Cleanup(func() { watch.Process.Kill() })
	_, err = bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	checkCapabilities(t, watch.Process.Pid, cap.BPF, cap.DAC_READ_SEARCH, cap.SYS_PTRACE)
	must(t, watch.Process.Signal(syscall.SIGHUP))
	if code := waitExit(t, watch); code != 0 {
		t.Errorf("after SIGHUP: exit code %d", code)
	}
}

// childOf returns the child of a process that runs a program, or 0 if it has none. Others come and go.
func childOf(t testing.TB, pid int, program string) (child int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/status")
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file) // an error if it has ended
		if err != nil || !strings.Contains(string(text), fmt.Sprintf("\nPPid:\t%d\n", pid)) {
			continue
		}
		if exe, err := os.Readlink(filepath.Join(filepath.Dir(file), "exe")); err != nil || exe != program {
			continue
		}
		_, err = fmt.Sscanf(file, "/proc/%d/status", &child)
		must(t, err)
	}
	return child
}

// A replay, whose recording anybody may have made, has no capability once the file
// is open, also if root starts it.
func TestReplayIsUnprivileged(t *testing.T) {
	privileged(t)
	file := filepath.Join(t.TempDir(), "a.zst")
	inNetns(t, func(uint32) {
		r := launchTo(t, outputFile(t), "--netns", threadNetns(), "-w", file)
		closeMany(t, 2000)
		if code, stderr := r.interrupt(t); code != 0 {
			t.Errorf("exit code %d, %s", code, stderr)
		}
	})
	path, err := program()
	must(t, err)
	replay := exec.Command(path, "replay", "-o", "json", file)
	stdout, err := replay.StdoutPipe() // which holds a part of it
	must(t, err)
	must(t, replay.Start())
	t.Cleanup(func() { replay.Process.Kill() })
	_, err = stdout.Read(make([]byte, 1))
	must(t, err)
	checkCapabilities(t, replay.Process.Pid)
	must(t, stdout.Close())
	if code := waitExit(t, replay); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// checkCapabilities fails unless every thread has exactly these capabilities, and
// no execve(2) can give it more.
func checkCapabilities(t testing.TB, pid int, want ...cap.Value) {
	t.Helper()
	for _, differs := range otherCapabilities(t, pid, want...) {
		t.Error(differs)
	}
}

// otherCapabilities returns how the threads of a process differ from exactly these
// capabilities, permitted and effective, with no_new_privs, without ambient or
// inheritable ones and, if root started it, without a bounding set.
func otherCapabilities(t testing.TB, pid int, want ...cap.Value) (differ []string) {
	t.Helper()
	var bits uint64
	for _, c := range want {
		bits |= 1 << c
	}
	set, none := fmt.Sprintf("%016x", bits), fmt.Sprintf("%016x", 0)
	lines := []string{"CapPrm:\t" + set, "CapEff:\t" + set, "CapAmb:\t" + none, "CapInh:\t" + none, "NoNewPrivs:\t1"}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	must(t, err)
	if len(files) < 2 {
		return []string{fmt.Sprintf("%d threads", len(files))}
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		if strings.Contains(string(text), "\nUid:\t0\t") {
			lines = append(lines, "CapBnd:\t"+none)
		}
		for _, line := range lines {
			if !strings.Contains(string(text), line+"\n") {
				differ = append(differ, fmt.Sprintf("%s: want %q in\n%s", file, line, text))
			}
		}
	}
	return differ
}
