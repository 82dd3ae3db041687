//go:build linux

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// thread is a system call that may block, on an operating system thread of its own.
type thread struct {
	tid     int
	done    chan struct{} // closed when the call has returned
	outcome string
	err     error
}

// start executes a step on a new thread.
func (r *sandbox) start(name string, st Step) error {
	if r.threads[name] != nil {
		return fmt.Errorf("a second thread %s", name)
	}
	do, err := r.bind(st)
	if err != nil {
		return err
	}
	t := &thread{done: make(chan struct{})}
	began := make(chan int)
	go onNewThread(func() {
		began <- unix.Gettid()
		t.outcome, t.err = do()
		close(t.done)
	})
	t.tid = <-began
	r.threads[name] = t
	r.res.IDs[name] = reportedID(t.tid)
	return nil
}

// ended waits for the thread's call to return, and reports whether it did.
func (t *thread) ended(within time.Duration) bool {
	select {
	case <-t.done:
		return true
	case <-time.After(within):
		return false
	}
}

// wait waits for the thread's call and returns its outcome.
func (t *thread) wait() (string, error) {
	if !t.ended(stepTimeout) {
		return "", fmt.Errorf("still blocked after %v", stepTimeout)
	}
	return t.outcome, t.err
}

// blockable are the system calls for which "blocked" can wait, by their numbers.
var blockable = map[string]int{
	"recv":  unix.SYS_RECVFROM,
	"close": unix.SYS_CLOSE,
}

// blockedIn returns call once the thread sleeps in that system call.
// /proc/.../syscall has its number, or "running" if the thread does not sleep.
func (t *thread) blockedIn(call string) (string, error) {
	data, err := os.ReadFile(filepath.Join("/proc/self/task", strconv.Itoa(t.tid), "syscall"))
	if err != nil {
		return "", err
	}
	number, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	if number == strconv.Itoa(blockable[call]) {
		return call, nil
	}
	return "system call " + number, nil
}

// interrupt sends a signal until the thread's call has returned, because a signal
// may arrive before the call blocks. The Go runtime catches it.
func (t *thread) interrupt(sig unix.Signal) error {
	for begin := time.Now(); time.Since(begin) < stepTimeout; {
		// It fails once the thread has ended, and then ended returns true.
		_ = unix.Tgkill(unix.Getpid(), t.tid, sig)
		if t.ended(10 * time.Millisecond) {
			return nil
		}
	}
	return fmt.Errorf("still blocked after %v", stepTimeout)
}
