//go:build unix

package documents

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
)

// Reader runs the commands of a document one after another, in a folder of its
// own, and ends with Ctrl-C what does not end by itself.
type Reader struct {
	dir, bin string
}

// NewReader makes a reader who works in dir. To them, closetrace is the shell
// command run, which gets the arguments as "$@"; and sudo has nothing to do.
func NewReader(dir, run string) (*Reader, error) {
	r := &Reader{dir: filepath.Join(dir, "work"), bin: filepath.Join(dir, "bin")}
	scripts := map[string]string{
		"closetrace": "echo $$ >" + r.pidFile() + "\n" + run + "\n",
		"sudo":       `exec "$@"` + "\n",
	}
	for _, made := range []string{r.dir, r.bin} {
		if err := os.Mkdir(made, 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(r.dir, "today.rec.zst"), []byte(aRecord), 0o644); err != nil {
		return nil, err
	}
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(r.bin, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// aRecord is one that a reader has; what is read is recognised by its content.
const aRecord = `{"schema_version":1,"kernel":"6.1.0","attach":"fentry","hooks":[],"hz":250,"wall_offset_ns":0}
{"kind":"end","took_ns":1}
`

func (r *Reader) pidFile() string { return filepath.Join(r.bin, "pid") }

// own is what readers put in the place of what stands in a document: a process and
// a namespace of theirs, a name that they are interested in, their own command.
var own = []struct {
	theirs *regexp.Regexp
	ours   string
}{
	{regexp.MustCompile(` -- .*`), " -- true"},
	{regexp.MustCompile(`\b(4211|PID)\b`), strconv.Itoa(os.Getpid())},
	{regexp.MustCompile(`--(cgroup|container) [/.\w]+`), "--cgroup /"}, // without a container of their own
	{regexp.MustCompile(`--netns web\b`), "--netns " + strconv.Itoa(os.Getpid())},
	{regexp.MustCompile(`\bNAME\b`), "close.fin.active"},
	{regexp.MustCompile(`\bLIST\b`), "rst"},
	{regexp.MustCompile(`\bDIR\b`), "."},
}

// Output is what a command said.
type Output struct {
	Code           int
	Stdout, Stderr string
}

// Failed: closetrace has an error to tell of, though a command after it, in a pipe,
// may have none.
func (o Output) Failed() bool {
	return o.Code != 0 || strings.Contains("\n"+o.Stderr, "\nhint: ")
}

// Try runs a command.
func (r *Reader) Try(ctx context.Context, c Command) (Output, error) {
	text := c.Text
	for _, o := range own {
		text = o.theirs.ReplaceAllString(text, o.ours)
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", text)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "PATH="+r.bin+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	said := make(chan struct{}, 1)
	stdout, stderr := watched{said: said}, watched{said: said}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if strings.Contains(text, "closetrace top") && !strings.Contains(text, "--help") {
		screen, err := onTerminal(cmd)
		if err != nil {
			return Output{}, err
		}
		defer screen.Close()
	}
	if err := cmd.Start(); err != nil {
		return Output{}, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	working := func() bool {
		return strings.Contains(stderr.String(), "closetrace: tracing on ") || strings.Contains(text, "--watch") && stdout.String() != ""
	}
	err := r.await(done, said, working)
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		return Output{}, err
	}
	return Output{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}, ctx.Err()
}

// onTerminal gives a command a terminal, at which nobody looks, in the place of its
// input and output.
func onTerminal(cmd *exec.Cmd) (screen io.Closer, err error) {
	ours, theirs, err := pty.Open()
	if err != nil {
		return nil, err
	}
	cmd.Stdin, cmd.Stdout = theirs, theirs
	cmd.Env = append(cmd.Env, "TERM=xterm")
	go io.Copy(io.Discard, ours)
	return both{ours, theirs}, nil
}

type both [2]io.Closer

func (b both) Close() error { return errors.Join(b[0].Close(), b[1].Close()) }

// await waits for a command to end. What traces, or watches, is given a moment to
// do so, and then interrupted.
func (r *Reader) await(done <-chan error, said <-chan struct{}, working func() bool) error {
	const moment = 200 * time.Millisecond
	for !working() {
		select {
		case err := <-done:
			return err
		case <-said:
		}
	}
	select {
	case err := <-done:
		return err
	case <-time.After(moment):
	}
	if err := r.interrupt(); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return <-done
}

func (r *Reader) interrupt() error {
	text, err := os.ReadFile(r.pidFile())
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s: %w", r.pidFile(), err)
	}
	return syscall.Kill(pid, syscall.SIGINT)
}

// watched is output that is read while it is written.
type watched struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	said chan<- struct{} // there is more; has room for one
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.said <- struct{}{}:
	default:
	}
	return w.buf.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}
