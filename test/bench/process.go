//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a running tracer, with its output in files; nil for the untraced run.
type process struct {
	tracer     tracer
	cmd        *exec.Cmd
	out, err   string // paths
	exited     chan error
	clockID    int32 // of its CPU time
	startedAt  time.Time
	readyAfter time.Duration
}

const readyLimit = 5 * time.Minute

// start starts a tracer.
func start(t tracer) (*process, error) {
	if t.argv == nil {
		return nil, nil
	}
	if _, err := os.Stat(t.argv[0]); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	p := &process{
		tracer: t,
		cmd:    exec.Command(t.argv[0], t.argv[1:]...),
		out:    dir + "/out",
		err:    dir + "/err",
		exited: make(chan error, 1),
	}
	stdout, err := os.Create(p.out)
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	stderr, err := os.Create(p.err)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	p.startedAt = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.exited <- p.cmd.Wait() }()
	const cpuClockSched = 2 // CPUCLOCK_SCHED of include/linux/posix-timers.h: all threads, by the scheduler
	p.clockID = int32(^p.cmd.Process.Pid)<<3 | cpuClockSched
	return p, nil
}

// awaitReady closes sockets until the tracer is attached.
func (p *process) awaitReady(closeOne func() error) error {
	if p == nil {
		return nil
	}
	for !p.isReady() {
		select {
		case err := <-p.exited:
			p.exited <- err // for stop
			return fmt.Errorf("ended at once: %w: %s", errors.Join(err, errors.New("no reason given")), p.stderr())
		default:
		}
		if time.Since(p.startedAt) > readyLimit {
			return fmt.Errorf("not attached after %v: %s", readyLimit, p.stderr())
		}
		if err := closeOne(); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	p.readyAfter = time.Since(p.startedAt)
	return nil
}

func (p *process) isReady() bool {
	if p.tracer.ready != "" {
		return strings.Contains(p.stderr(), p.tracer.ready)
	}
	return p.outputSize() > 0
}

// cpu returns the CPU time of the tracer so far in nanoseconds, in user mode and in system calls.
func (p *process) cpu() int64 {
	if p == nil {
		return 0
	}
	var t unix.Timespec
	if err := unix.ClockGettime(p.clockID, &t); err != nil {
		return 0
	}
	return t.Nano()
}

// stderr returns what it has written to standard error.
func (p *process) stderr() string {
	if p == nil {
		return ""
	}
	text, _ := os.ReadFile(p.err)
	return string(text)
}

func (p *process) outputSize() int64 {
	if p == nil {
		return 0
	}
	info, err := os.Stat(cmp.Or(p.tracer.file, p.out))
	if err != nil {
		return 0
	}
	return info.Size()
}

// resident returns its peak memory in KB.
func (p *process) resident() int {
	if p == nil {
		return 0
	}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(value)[0])
			return kb
		}
	}
	return 0
}

// wakeUps returns how often its threads have been woken so far.
func (p *process) wakeUps() (sum int) {
	if p == nil {
		return 0
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		_, after, _ := strings.Cut(string(text), "\nvoluntary_ctxt_switches:")
		first, _, _ := strings.Cut(after, "\n")
		n, _ := strconv.Atoi(strings.TrimSpace(first))
		sum += n
	}
	return sum
}

// stop interrupts it like Ctrl-C.
func (p *process) stop() error {
	if p == nil {
		return nil
	}
	defer os.Remove(p.out)
	if p.tracer.file != "" {
		defer os.Remove(p.tracer.file)
	}
	for giveUp := time.Now().Add(readyLimit); time.Now().Before(giveUp); {
		// If it has ended by itself, Wait reports it.
		_ = p.cmd.Process.Signal(syscall.SIGINT)
		select {
		case err := <-p.exited:
			var exit *exec.ExitError
			if errors.As(err, &exit) && p.tracer.kind == kindPeer {
				return nil // their way to end by a signal
			}
			return err
		case <-time.After(p.stopTimeout()):
			fmt.Printf("%s still runs after SIGINT\n", p.tracer.name)
		}
	}
	return errors.Join(errors.New("did not end"), p.cmd.Process.Kill())
}

// stopTimeout returns how long to wait after a signal. closetrace needs only one signal. bpftrace sees a signal when
// its sleep is interrupted or an event arrives.
func (p *process) stopTimeout() time.Duration {
	if p.tracer.kind == kindPeer {
		return 10 * time.Second
	}
	return readyLimit
}

var losses = regexp.MustCompile(`(?i)\blost (\d[\d,]*)|(\d[\d,]*) (?:records?|events?) lost`)

// lost adds up the events that a tracer reports as lost.
func lost(output string) int {
	sum := 0
	for _, m := range losses.FindAllStringSubmatch(output, -1) {
		n, _ := strconv.Atoi(strings.ReplaceAll(m[1]+m[2], ",", ""))
		sum += n
	}
	return sum
}
