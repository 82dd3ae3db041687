//go:build unix

package documents

import (
	"bytes"
	"context"
	_ "embed"
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

// Reader runs the commands of a document one after another, in its own directory. It interrupts those that do not end
// by themselves.
type Reader struct {
	dir, bin string
}

// NewReader returns a reader that works in dir. It runs closetrace as the shell command run, which gets the arguments
// as "$@"; its sudo changes nothing.
func NewReader(dir, run string) (*Reader, error) {
	r := &Reader{dir: filepath.Join(dir, "work"), bin: filepath.Join(dir, "bin")}
	scripts := map[string]string{
		// An example records to a file that is there for those that read it.
		"closetrace": `case " $* " in *" -w today.rec.zst "*) rm -f today.rec.zst ;; esac` + "\necho $$ >" + r.pidFile() + "\n" + run + "\n",
		"sudo":       `exec "$@"` + "\n",
	}
	for _, made := range []string{r.dir, r.bin} {
		if err := os.Mkdir(made, 0o755); err != nil {
			return nil, err
		}
	}
	for name, content := range map[string]string{
		"today.rec.zst": aRecord, "night.rec.zst": night, "night.pcap": nightCapture,
		"web1.rec.zst": nightOf("web1", "10.0.0.5"), "db1.rec.zst": nightOf("db1", "10.0.0.9"),
		"key": strings.Repeat("5a", 32) + "\n",
	} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(r.bin, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// aRecord is a recording for commands that read one. It is recognized by its content.
const aRecord = `{"schema_version":1,"kernel":"6.1.0","attach":"fentry","hooks":[],"hz":250,"wall_offset_ns":0}
{"kind":"end","took_ns":1}
`

// night is a recording with the connection of the examples: 10.0.0.9:443 resets 10.0.0.5:33042.
//
//go:embed night.jsonl
var night string

// nightCapture is a capture of its RST.
//
//go:embed night.pcap
var nightCapture string

// Night returns the content of that recording.
func Night() []byte { return []byte(night) }

// nightOf returns what a host with one of the addresses would have recorded.
func nightOf(host, address string) string {
	header, rest, _ := strings.Cut(night, "\n")
	text := strings.Replace(header, "{", `{"host":"`+host+`","boot_id":"`+host+`",`, 1) + "\n"
	for line := range strings.Lines(rest) {
		if strings.Contains(line, `"local":"`+address+":") {
			text += line
		}
	}
	return text + `{"kind":"end","took_ns":1}` + "\n"
}

func (r *Reader) pidFile() string { return filepath.Join(r.bin, "pid") }

// own replaces placeholders of the documents: a process id, a namespace, a name, a command.
var own = []struct {
	pattern     *regexp.Regexp
	replacement string
}{
	{regexp.MustCompile(` -- .*`), " -- true"},
	{regexp.MustCompile(`\b(4211|PID)\b`), strconv.Itoa(os.Getpid())},
	{regexp.MustCompile(`--(cgroup|container) [/.\w]+`), "--cgroup /"}, // without a container of their own
	{regexp.MustCompile(`--netns web\b`), "--netns " + strconv.Itoa(os.Getpid())},
	{regexp.MustCompile(`\bNAME\b`), "close.fin.active"},
	{regexp.MustCompile(`\bLIST\b`), "rst"},
	{regexp.MustCompile(`\bDIR\b`), "."},
}

// Output is the result of a command.
type Output struct {
	Code           int
	Stdout, Stderr string
}

// Failed reports whether closetrace printed an error, even if a later command of a pipe succeeded.
func (o Output) Failed() bool {
	return o.Code != 0 || strings.Contains("\n"+o.Stderr, "\nhint: ")
}

// Try runs a command.
func (r *Reader) Try(ctx context.Context, c Command) (Output, error) {
	text := c.Text
	for _, o := range own {
		text = o.pattern.ReplaceAllString(text, o.replacement)
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", text)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "PATH="+r.bin+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	output := make(chan struct{}, 1)
	stdout, stderr := watched{output: output}, watched{output: output}
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
		return strings.Contains(stderr.String(), "closetrace: tracing on ") ||
			strings.Contains(text, "--watch") && stdout.String() != ""
	}
	err := r.await(done, output, working)
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		return Output{}, err
	}
	return Output{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}, ctx.Err()
}

// onTerminal gives a command a terminal, which is not read, as its input and output.
func onTerminal(cmd *exec.Cmd) (screen io.Closer, err error) {
	ours, theirs, err := pty.Open()
	if err != nil {
		return nil, err
	}
	cmd.Stdin, cmd.Stdout = theirs, theirs
	cmd.Env = append(cmd.Env, "TERM=xterm")
	go io.Copy(io.Discard, ours)
	return closers{ours, theirs}, nil
}

type closers [2]io.Closer

func (b closers) Close() error { return errors.Join(b[0].Close(), b[1].Close()) }

// await waits until a command ends. It lets a command that traces or watches run for a moment, and then interrupts
// it.
func (r *Reader) await(done <-chan error, output <-chan struct{}, working func() bool) error {
	const moment = 200 * time.Millisecond
	for !working() {
		select {
		case err := <-done:
			return err
		case <-output:
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
	mu     sync.Mutex
	buf    bytes.Buffer
	output chan<- struct{} // there is more; has room for one
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.output <- struct{}{}:
	default:
	}
	return w.buf.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}
