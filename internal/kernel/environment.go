package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/closetrace/closetrace/internal/hint"
)

// minFiles is how many files a trace opens at most, with a reserve: programs, maps, links and files of /proc.
const minFiles = 128

// runtimeFiles is how many files Go's runtime may open without an error that it can return.
const runtimeFiles = 16

// CheckRuntime returns an error if the limit on open files is so low that Go's runtime ends with a crash.
func CheckRuntime() error { return checkFiles(runtimeFiles) }

// checkFiles returns an error if this process may not have this many files open. Go has raised the soft limit to the
// hard one.
func checkFiles(needed uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur >= needed {
		return nil
	}
	return &hint.Error{
		What: fmt.Sprintf("the limit on open files is %d; closetrace needs %d (RLIMIT_NOFILE)", limit.Cur, needed),
		Hint: raiseFiles,
	}
}

// raiseFiles and raiseMemory say how to raise a limit.
const (
	raiseFiles  = "raise it: sudo prlimit --nofile=1024 closetrace"
	raiseMemory = "raise memory.max of the cgroup or the limit of the container, or use a smaller --buffer-size"
)

// CheckProc returns an error without /proc.
func CheckProc() error {
	if _, err := os.Stat("/proc/self/status"); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &hint.Error{What: "/proc is not mounted", Hint: "mount it: mount -t proc proc /proc"}
}

// CheckEnvironment returns why tracing is impossible here whatever capabilities this process has: too few open files,
// no /proc, or bpf(2) fails although the capabilities for it are in effect.
func CheckEnvironment() error {
	if err := errors.Join(checkFiles(minFiles), CheckProc()); err != nil {
		return err
	}
	if !holds(cap.GetProc(), cap.BPF) {
		return nil // which CheckPrivileges says
	}
	err := createMap()
	return refusalOf(err, &surroundings{
		reachable: reachesBPF(), seccomp: seccompFilter(), userNamespace: inUserNamespace(),
		charged: errors.Is(err, unix.EPERM) && chargesLockedMemory(),
	})
}

// Scarce returns an error of kind [hint.Failed] with what to do if err says that a limit of this process was reached,
// or nil.
func Scarce(err error) error {
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return &hint.Error{What: "too many open files", Err: err, Hint: raiseFiles}
	case errors.Is(err, unix.ENOMEM):
		return &hint.Error{What: "not enough memory", Err: err, Hint: raiseMemory}
	}
	return nil
}

// surroundings is what may refuse bpf(2) to a process with all capabilities.
type surroundings struct {
	reachable     bool // bpf(2) reaches the kernel's code
	seccomp       bool // this process has a seccomp filter
	userNamespace bool // its capabilities are those of a user namespace
	charged       bool // maps count as locked memory, whose limit also causes EPERM
}

// refusalOf returns the error for a bpf(2) that failed with err.
func refusalOf(err error, s *surroundings) error {
	const seccompHint = "use the profile deploy/seccomp/closetrace.json; docker, podman: --security-opt seccomp=FILE; " +
		"Kubernetes: seccompProfile Localhost"
	if err == nil {
		return nil
	}
	if scarce := Scarce(err); scarce != nil {
		return scarce
	}
	denied := &hint.Error{Kind: hint.Privilege, What: "bpf(2) is denied although this process has the capabilities for it"}
	switch {
	case errors.Is(err, unix.ENOSYS) && !s.seccomp:
		return hint.New(hint.Unsupported, "kernel "+Release()+" was built without bpf(2)",
			"boot a kernel with CONFIG_BPF_SYSCALL=y")
	case errors.Is(err, fs.ErrPermission) && s.userNamespace:
		denied.What += ": they count in a user namespace only"
		denied.Hint = "run it outside of the user namespace: a rootless container cannot trace"
	case s.seccomp && !s.reachable:
		denied.What += ": a seccomp filter denies it"
		denied.Hint = seccompHint
	case errors.Is(err, fs.ErrPermission) && s.charged:
		return nil // CheckPrivileges looks at the limit
	case errors.Is(err, fs.ErrPermission):
		denied.What += ": a security module denies it"
		denied.Hint = "SELinux, AppArmor or another one: see the audit log (ausearch -m avc; dmesg)"
	default:
		return fmt.Errorf("bpf(2): %w", err)
	}
	return denied
}

// createMap creates the smallest map and closes it.
func createMap() error {
	attr := struct{ kind, key, value, entries uint32 }{kind: unix.BPF_MAP_TYPE_ARRAY, key: 4, value: 4, entries: 1}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_MAP_CREATE, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(&attr)
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

// reachesBPF reports whether bpf(2) reaches the kernel's code, which first refuses attributes that exceed a page.
func reachesBPF() bool {
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_MAP_CREATE, 0, 1<<20)
	return errno == unix.E2BIG
}

// seccompFilter reports whether this process has a seccomp filter.
func seccompFilter() bool {
	text, err := os.ReadFile("/proc/self/status")
	return err == nil && strings.Contains(string(text), "\nSeccomp:\t2\n")
}

// inUserNamespace reports whether this process is in another user namespace than the initial one, which maps every id
// to itself.
func inUserNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(text)), " ") != "0 0 4294967295"
}

// chargesLockedMemory reports whether maps count as locked memory: before 5.11, which removed bpf_map_charge_init. It
// reads the type information of the kernel, and is for what has failed already.
func chargesLockedMemory() bool {
	k, err := Running(nil, "")
	return err == nil && k.HasFunc("bpf_map_charge_init")
}
