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

// global is a setting of the whole machine that a scenario has changed.
type global struct{ file, old, now string }

// setGlobal changes a setting of the whole machine, which is in file, until
// restore or the end of the run. It is an error if it has that value already: the
// old one is not known then.
func (r *sandbox) setGlobal(key, file, value string) error {
	return outside(func() error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		g, changed := r.globals[key]
		if !changed {
			g = global{file: file, old: strings.TrimSpace(string(text))}
		}
		if !changed && g.old == value {
			return fmt.Errorf("%s is already %s: set by another lab, or by one that was killed; %s", key, value, setBack(key))
		}
		if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
			return err
		}
		g.now = value
		r.globals[key] = g
		return nil
	})
}

// setBack returns how to give a setting its usual value.
func setBack(key string) string {
	how := fmt.Sprintf("to set it back: sysctl -w %s=N", key)
	if key == maxOrphans { // tcp_init
		how += `, by default half of the "TCP established hash table entries" in dmesg`
	}
	return how
}

// NotRestored means that a setting of the whole machine does not have its old value again.
type NotRestored struct {
	Key, Old, Now string
	Err           error
}

// Error says so, and how to restore it.
func (e *NotRestored) Error() string {
	return fmt.Sprintf("%s is still %s: %v; to set it back: sysctl -w %s=%s", e.Key, e.Now, e.Err, e.Key, e.Old)
}

// Unwrap returns the reason.
func (e *NotRestored) Unwrap() error { return e.Err }

// restore gives a global setting its old value.
func (r *sandbox) restore(key string) error {
	g, changed := r.globals[key]
	if !changed {
		return fmt.Errorf("%s was not changed", key)
	}
	delete(r.globals, key)
	err := outside(func() error { return os.WriteFile(g.file, []byte(g.old), 0o644) })
	if err != nil {
		return &NotRestored{key, g.old, g.now, err}
	}
	return nil
}
