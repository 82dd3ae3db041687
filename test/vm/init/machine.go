//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// mounts are made in this order.
var mounts = []struct{ kind, at, options string }{
	{"proc", "/proc", ""},
	{"sysfs", "/sys", ""},
	{"devtmpfs", "/dev", ""},
	{"devpts", "/dev/pts", "ptmxmode=666"},
	{"tmpfs", "/dev/shm", ""},
	{"tmpfs", "/run", "mode=755"},
	{"tmpfs", "/tmp", "mode=1777"},
	{"tracefs", "/sys/kernel/tracing", ""},
	{"securityfs", "/sys/kernel/security", ""},
	{"cgroup2", "/sys/fs/cgroup", ""},
	{"bpf", "/sys/fs/bpf", "mode=700"},
}

// prepare sets up the guest so that programs can run.
func prepare(plan guest.Plan) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return fmt.Errorf("mount %s: %w", m.kind, err)
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, m.options); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.at, err)
		}
	}
	for _, dir := range []string{guest.OutDir, "/root"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := rawPort(os.Stdout); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	if err := unix.Sethostname([]byte(plan.Hostname)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := linkUp("lo"); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	if err := calm(); err != nil {
		return fmt.Errorf("scheduling: %w", err)
	}
	return loadModules(plan.Modules)
}

// calm makes all processes of the guest, which inherit it, preempt each other less: a woken task does not preempt,
// and from 6.12 on tasks run for longer. Emulated, a BPF program takes a good part of a tick. Where tasks can be
// preempted within one (7.0 on), the kernel often skips it for the others, and counts that.
func calm() error {
	return unix.SchedSetAttr(0, &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH, Runtime: uint64(50 * time.Millisecond),
	}, 0)
}

// linkUp sets IFF_UP on a network interface.
func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return err
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

func loadModules(paths []string) error {
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("load module: %w", err)
		}
		if err := unix.InitModule(data, ""); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load module %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

// rawPort makes a terminal pass bytes as they are.
func rawPort(tty *os.File) error {
	fd := int(tty.Fd())
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag = 0
	t.Oflag = 0
	t.Lflag = 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}

// drain waits until the terminal has sent everything written to it.
func drain(tty *os.File) {
	const untilSent = 1 // tcdrain(3) is TCSBRK with an argument that is not 0
	// An error means that it is no terminal, and then nothing is waiting in it.
	_ = unix.IoctlSetInt(int(tty.Fd()), unix.TCSBRK, untilSent)
}
