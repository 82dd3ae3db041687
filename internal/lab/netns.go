//go:build linux

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/netns"
)

// onNewThread runs do on an operating system thread that ends afterwards, and
// with it everything that do changed about it, such as its namespace and signal
// mask. It is never the process's main thread, which /proc/self describes and
// which cannot end.
func onNewThread(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onNewThread(do)
			runtime.UnlockOSThread()
			return
		}
		blockSignals()
		do()
	}()
	<-done
}

// blockSignals blocks the signals of this thread: the Go runtime's preemption
// signal would end the wait of a lingering close. SIGUSR1 is not blocked, for the
// steps that need a signal. Signals of faults (SIGSEGV ...) must not be blocked.
func blockSignals() {
	var set unix.Sigset_t
	for sig := unix.Signal(1); sig < 32; sig++ {
		switch sig {
		case unix.SIGUSR1, unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGSYS:
		default:
			const bits = strconv.IntSize
			set.Val[(int(sig)-1)/bits] |= 1 << ((int(sig) - 1) % bits)
		}
	}
	// The call can only fail for a bad argument.
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
}

// enterNewNetns moves the calling thread into a new network namespace and
// brings up its loopback device.
func (r *sandbox) enterNewNetns() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("new network namespace: %w", err)
	}
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("new network namespace: %w", err)
	}
	r.netns = fd
	if r.res.Netns, err = netns.Inode("/proc/thread-self/ns/net"); err != nil {
		return fmt.Errorf("new network namespace: %w", err)
	}
	return loopbackUp()
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}

// outside runs do on a thread that is in the process's own network namespace.
func outside(do func() error) error {
	result := make(chan error)
	go func() { result <- do() }()
	return <-result
}

// sysctlPath returns the file of a setting. It is the setting of the network
// namespace of the thread that opens it.
func sysctlPath(key string) string {
	return filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
}

// setGlobal changes a setting of the whole machine until restore or the end of
// the run.
func (r *sandbox) setGlobal(key, value string) error {
	return outside(func() error {
		old, err := os.ReadFile(sysctlPath(key))
		if err != nil {
			return err
		}
		if _, changed := r.globals[key]; !changed {
			r.globals[key] = strings.TrimSpace(string(old))
		}
		return os.WriteFile(sysctlPath(key), []byte(value), 0o644)
	})
}

// restore gives a global setting its old value.
func (r *sandbox) restore(key string) error {
	value, changed := r.globals[key]
	if !changed {
		return fmt.Errorf("%s was not changed", key)
	}
	delete(r.globals, key)
	return outside(func() error { return os.WriteFile(sysctlPath(key), []byte(value), 0o644) })
}
