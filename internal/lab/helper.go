//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// helperEnv marks a process as a helper. Its value is the names of the sockets
// that it inherited, from descriptor firstSocket on.
const helperEnv = "CLOSETRACE_LAB_HELPER"

// Descriptors of a helper process.
const (
	controlFD   = 3 // a SOCK_SEQPACKET socket: one command, one answer
	firstSocket = 4
)

// helperArgument is an argument that no program accepts. A program that does not
// call RunHelper fails because of it, instead of running as if the user had
// started it.
const helperArgument = "--this-is-a-lab-helper"

const ready = "ready"

// RunHelper must be the first call of main, and of TestMain in tests: a
// scenario that needs a second process starts this program again. In such a
// helper process RunHelper executes the commands of the parent and returns true
// when there are no more. Then the program must exit.
func RunHelper() bool {
	names, isHelper := os.LookupEnv(helperEnv)
	if !isHelper {
		return false
	}
	sockets := map[string]int{}
	for i, name := range strings.Fields(names) {
		sockets[name] = firstSocket + i
	}
	answer := ready
	for {
		if _, err := unix.Write(controlFD, []byte(answer)); err != nil {
			return true // the parent has ended
		}
		command, err := receive(controlFD)
		if err != nil || command == "" {
			return true
		}
		if err := runCommand(command, sockets); err != nil {
			answer = err.Error()
		} else {
			answer = ready
		}
	}
}

// receive reads one message. It returns "" at the end.
func receive(fd int) (string, error) {
	buf := make([]byte, 512)
	for {
		n, err := unix.Read(fd, buf)
		if err != unix.EINTR {
			return string(buf[:max(n, 0)]), err
		}
	}
}

// runCommand executes one command of the parent in the helper.
func runCommand(command string, sockets map[string]int) error {
	words := append(strings.Fields(command), "", "")
	switch words[0] {
	case "close":
		fd, ok := sockets[words[1]]
		if !ok {
			return fmt.Errorf("this helper has no socket %s", words[1])
		}
		delete(sockets, words[1])
		return unix.Close(fd)
	case "destroy":
		return runDestroy(words[1], words[2])
	case "exit":
		code, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		os.Exit(code)
	case "exec-cloexec":
		for _, fd := range sockets {
			unix.CloseOnExec(fd)
		}
		runtime.LockOSThread() // the name is that of the thread
		if err := os.WriteFile("/proc/thread-self/comm", []byte("before-exec"), 0); err != nil {
			return err
		}
		return unix.Exec("/proc/self/exe", os.Args, []string{helperEnv + "="})
	}
	return fmt.Errorf("unknown command %q", command)
}

// helper is a second process that holds some of the scenario's sockets.
type helper struct {
	pid     int
	control int // descriptor of the parent's end, -1 once the helper has ended
}

// spawn starts a helper that inherits sockets, and closes this process's
// descriptors of them. The sockets stay open, because the helper has copies.
func (r *sandbox) spawn(name string, sockets []string) error {
	if r.helpers[name] != nil {
		return fmt.Errorf("a second helper %s", name)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pair[1])
	files := []uintptr{0, 1, 2, uintptr(pair[1])}
	for _, s := range sockets {
		if r.sockets[s] == nil {
			unix.Close(pair[0])
			return fmt.Errorf("no socket %s", s)
		}
		files = append(files, uintptr(r.sockets[s].fd.Load()))
	}
	// The kernel sends the signal at the latest when the sandbox's thread ends.
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"lab-helper", helperArgument}, &syscall.ProcAttr{
		Env:   []string{helperEnv + "=" + strings.Join(sockets, " ")},
		Files: files,
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		unix.Close(pair[0])
		return fmt.Errorf("start a helper: %w", err)
	}
	h := &helper{pid: pid, control: pair[0]}
	r.helpers[name], r.res.IDs[name] = h, reportedID(pid)
	if err := r.awaitReady(h); err != nil {
		return err
	}
	for _, s := range sockets {
		if err := r.sockets[s].close(); err != nil {
			return err
		}
	}
	return nil
}

// command sends the helper a command and waits until it has executed it.
func (r *sandbox) command(h *helper, text string) error {
	if h.control < 0 {
		return errors.New("the helper has ended")
	}
	if _, err := unix.Write(h.control, []byte(text)); err != nil {
		return err
	}
	return r.awaitReady(h)
}

// awaitReady waits until the helper is ready.
func (r *sandbox) awaitReady(h *helper) error {
	if err := r.poll(h.control, unix.POLLIN); err != nil {
		return err
	}
	answer, err := receive(h.control)
	switch {
	case err != nil:
		return err
	case answer == "":
		return errors.New("the helper ended: does the program call lab.RunHelper first?")
	case answer != ready:
		return fmt.Errorf("helper: %s", answer)
	}
	return nil
}

// exit makes the helper exit and waits until the process has ended.
func (h *helper) exit(code int) error {
	if _, err := unix.Write(h.control, fmt.Appendf(nil, "exit %d", code)); err != nil {
		return err
	}
	status, err := h.reap(stepTimeout)
	if err == nil && (!status.Exited() || status.ExitStatus() != code) {
		err = fmt.Errorf("the helper ended with status %#x", uint32(status))
	}
	return err
}

// kill sends SIGKILL and waits until the process has ended.
func (h *helper) kill() error {
	if err := unix.Kill(h.pid, unix.SIGKILL); err != nil {
		return err
	}
	_, err := h.reap(stepTimeout)
	return err
}

// end kills the helper if it has not ended.
func (h *helper) end() {
	if h.control >= 0 {
		_ = h.kill() // if that fails, PDEATHSIG kills it
	}
}

// reap waits for the process to end. When wait4 reports it, the process has
// closed all its descriptors.
func (h *helper) reap(within time.Duration) (unix.WaitStatus, error) {
	var status unix.WaitStatus
	for begin := time.Now(); time.Since(begin) < within; {
		pid, err := unix.Wait4(h.pid, &status, unix.WNOHANG, nil)
		if pid == h.pid || err != nil && err != unix.EINTR {
			unix.Close(h.control)
			h.control = -1
			return status, err
		}
		time.Sleep(time.Millisecond)
	}
	return status, fmt.Errorf("the helper has not ended after %v", within)
}
