//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/test/fake"
)

// broken is a source that fails after its events.
type broken struct{ *fake.Source }

func (b broken) Read(ev *events.Event) error {
	if err := b.Source.Read(ev); !errors.Is(err, events.ErrIdle) {
		return err
	}
	return errors.New("the source is broken")
}

// If tracing fails, the command goes on to its end, and the guard does not say
// that all was fine.
func TestRunOutlivesTheTracing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "written at its end")
	var stderr strings.Builder
	s := fakeSystem(0)
	s.redirect(io.Discard, &stderr)
	s.tracer.system.Open = func(context.Context, probe.Options) (pipeline.Source, error) {
		return broken{&fake.Source{Left: 1}}, nil
	}
	s.args = []string{"run", "--", "sh", "-c", `sleep 0.2; echo x >"$0"; exit 3`, file}
	if code := run(t.Context(), s); code != 125 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	const want = "\nclosetrace: " +
		"tracing failed before the command ended; the command itself: exit status 3: the source is broken\n"
	if !strings.Contains(stderr.String(), want) || !strings.Contains(stderr.String(), "\n1 ending in ") {
		t.Errorf("stderr:\n%s", &stderr)
	}
}

// refused is a source of a connection attempt that was refused, and closed by the command.
type refused struct{ *fake.Source }

func (r refused) Read(ev *events.Event) error {
	isFirst := r.Left == 2
	if err := r.Source.Read(ev); err != nil {
		return err
	}
	ev.Before, ev.After, ev.Flags = events.Close, events.Close, ev.Flags&^events.SentFIN
	ev.Task.PID = 4212 // which has exited when its cgroup is looked up
	if isFirst {
		*ev = events.Event{
			Kind: events.KindDone, MonoNS: ev.MonoNS, Sock: ev.Sock, Local: ev.Local, Remote: ev.Remote, Netns: ev.Netns,
			Before: events.SynSent, After: events.Close, SockErr: int32(syscall.ECONNREFUSED),
			Stack: []string{"tcp_done", "tcp_reset", "tcp_rcv_state_process"},
		}
	}
	return nil
}

// A RST received is the command's because the command closes the socket, although that close has no effect and a table
// does not show it.
func TestRunFindsRefusedConnections(t *testing.T) {
	for _, all := range []string{"--all=false", "--all"} {
		var stderr strings.Builder
		s := fakeSystem(0)
		s.redirect(io.Discard, &stderr)
		s.tracer.system.Open = func(context.Context, probe.Options) (pipeline.Source, error) {
			return refused{&fake.Source{Left: 2}}, nil
		}
		s.args = []string{"run", all, "--fail-on", "recv.rst", "--", "sleep", "0.3"}
		if code := run(t.Context(), s); code != 124 {
			t.Errorf("%s: exit code %d", all, code)
		}
		closes := strings.Count(stderr.String(), " connect(2) failed ")
		if !strings.Contains(stderr.String(), "\n2 endings in ") || (closes == 1) != (all == "--all") {
			t.Errorf("%s: stderr:\n%s", all, &stderr)
		}
	}
}

// counting is a command that counts SIGINT and prints the count on SIGTERM.
const counting = `n=0
trap 'n=$((n+1)); echo int' INT
trap 'echo got $n; exit 9' TERM
trap 'echo hup' HUP
echo ready
while :; do sleep 0.02; done`

// runCounting starts counting with closetrace run, in a session without a terminal.
func runCounting(t *testing.T) (cmd *exec.Cmd, out *bufio.Reader) {
	t.Helper()
	cmd = exec.Command("closetrace-fake", "run", "--", "sh", "-c", counting)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cmd.Stdout, cmd.SysProcAttr = w, &syscall.SysProcAttr{Setsid: true}
	heedSignals(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() { timer.Stop() })
	out = bufio.NewReader(r)
	expectLine(t, out, "ready")
	return cmd, out
}

// heedSignals makes what this test starts not ignore the signals that its own shell may have it ignore.
func heedSignals(t *testing.T) {
	t.Helper()
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGINT, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(caught) })
}

func expectLine(t *testing.T, out *bufio.Reader, want string) {
	t.Helper()
	line, err := out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != want {
		t.Fatalf("got %q, %v; want %q", line, err, want)
	}
}

// run forwards signals to the command, and exits with its exit code.
func TestRunForwardsSignals(t *testing.T) {
	cmd, out := runCounting(t)
	for sig, want := range map[syscall.Signal]string{syscall.SIGINT: "int", syscall.SIGHUP: "hup"} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		expectLine(t, out, want)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	expectLine(t, out, "got 1")
	_ = cmd.Wait() // ProcessState has the exit code
	if code := cmd.ProcessState.ExitCode(); code != 9 {
		t.Errorf("exit code %d", code)
	}
}
