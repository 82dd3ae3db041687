//go:build linux

package live

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/closetrace/closetrace/internal/lab"
)

// run is a closetrace whose endings are read as it prints them.
type run struct {
	cmd     *exec.Cmd
	mu      sync.Mutex
	endings []lab.Seen
	stderr  []string // on standard error, line by line
	read    sync.WaitGroup
}

// startReading starts closetrace after prepare changed its command, and waits
// until it traces or exits.
func startReading(t testing.TB, prepare func(*exec.Cmd), args ...string) *run {
	t.Helper()
	privileged(t)
	allowKprobes(t)
	defaultMemlock(t)
	r := &run{cmd: exec.Command(executableByAll(t), append(args, "-o", "json", "--attach", *attach)...)}
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
			r.stderr = append(r.stderr, lines.Text())
			r.mu.Unlock()
			if strings.HasPrefix(lines.Text(), "closetrace: tracing on ") {
				attached()
			}
		}
	})
	<-ready
	return r
}

// stderrText returns what closetrace has printed to standard error so far.
func (r *run) stderrText() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.stderr, "\n")
}

// waitFor waits for an ending and returns its decoded JSON.
func (r *run) waitFor(t testing.TB, path string, of conn) map[string]any {
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

// interrupt ends closetrace and returns its exit code.
func (r *run) interrupt(t testing.TB) int {
	t.Helper()
	must(t, r.cmd.Process.Signal(os.Interrupt))
	r.read.Wait()
	countMissed(t, uint64(missed(r.stderrText())))
	return waitExit(t, r.cmd)
}

// finish ends closetrace and fails unless it exits with code 0 and prints an
// audit.
func (r *run) finish(t testing.TB) {
	t.Helper()
	if code := r.interrupt(t); code != 0 {
		t.Errorf("exit code %d: %s", code, r.stderrText())
	}
	if !strings.Contains(r.stderrText(), "audit: RSTs sent ") {
		t.Errorf("no audit:\n%s", r.stderrText())
	}
}
