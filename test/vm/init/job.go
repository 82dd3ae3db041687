//go:build linux

package main

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// grace is how long a job that timed out may print its goroutines, and how long killed processes may take to exit.
const grace = 3 * time.Second

// runJob runs a job with its output on console and returns its End mark. When it returns, no process but init is
// left, or as a service, none of the job's process group.
func runJob(job guest.Job, console io.Writer) guest.Mark {
	m := guest.Mark{Event: guest.End, Job: job.Name}
	start := time.Now()
	r, w, err := os.Pipe()
	if err != nil {
		m.Error = err.Error()
		return m
	}
	defer r.Close()
	pid, err := startJob(job, w)
	w.Close()
	if err != nil {
		m.Error = "start: " + err.Error()
		return m
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(console, r)
		copied <- err
	}()

	status, timedOut := await(pid, job.Timeout)
	m.Seconds = time.Since(start).Seconds()
	m.TimedOut = timedOut
	m.Exit = status.ExitStatus()
	if status.Signaled() {
		m.Exit = 128 + int(status.Signal())
		m.Signal = unix.SignalName(status.Signal())
	}
	if os.Getpid() != 1 {
		_ = unix.Kill(-pid, unix.SIGKILL) // ESRCH: no process is left
	} else if left := killAll(); left != nil {
		m.Error = left.Error()
	}
	// A process that cannot be killed may still hold the other end.
	if err := r.SetReadDeadline(time.Now().Add(grace)); err != nil {
		m.Error = err.Error()
	}
	if err := <-copied; err != nil {
		m.Error = "output cut short: " + err.Error()
	}
	return m
}

// startJob starts a job in its own session, and so in its own process group.
func startJob(job guest.Job, output *os.File) (pid int, err error) {
	if len(job.Argv) == 0 {
		return 0, errors.New("no command")
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	out := output.Fd()
	return syscall.ForkExec(job.Argv[0], job.Argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp"}, job.Env...),
		Files: []uintptr{null.Fd(), out, out},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}

// await reaps every child until pid ends. After the timeout it sends SIGQUIT to pid's process group, on which a Go
// program prints its goroutines, and a little later SIGKILL.
func await(pid int, timeout time.Duration) (status unix.WaitStatus, timedOut bool) {
	var late atomic.Bool
	quit := time.AfterFunc(timeout, func() {
		late.Store(true)
		_ = unix.Kill(-pid, unix.SIGQUIT) // ESRCH: it has just ended
	})
	defer quit.Stop()
	kill := time.AfterFunc(timeout+grace, func() { _ = unix.Kill(-pid, unix.SIGKILL) })
	defer kill.Stop()
	for {
		got, err := unix.Wait4(-1, &status, 0, nil)
		if got == pid || errors.Is(err, unix.ECHILD) {
			return status, late.Load()
		}
	}
}

// killAll kills and reaps every process but init, and returns an error if some do not die.
func killAll() error {
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		_ = unix.Kill(-1, unix.SIGKILL) // ESRCH: no process is left
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if errors.Is(err, unix.ECHILD) {
				return nil
			}
			if pid == 0 {
				break
			}
		}
	}
	return errors.New("left processes that cannot be killed")
}
