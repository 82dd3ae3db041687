//go:build linux

package symbols

import (
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// processVariable marks a process of a [Helper]. Its value is the part that the process plays.
const processVariable = "CLOSETRACE_SYMBOLS"

// The parts. The supervisor starts the reader again if it ends.
const (
	supervisor = "supervisor"
	reader     = "reader"
)

// processArgument is an argument that no program accepts. A program that does not call RunHelper fails because of it.
const processArgument = "--this-is-a-symbols-helper"

// socketFD is the descriptor of a process's end of the socket.
const socketFD = 3

// Limits of the reader.
const (
	// lookupTime is how long a look-up may take. If it does not notice, the reader ends after killTime.
	lookupTime = 500 * time.Millisecond
	killTime   = 700 * time.Millisecond
	// maxStarts bounds how often the reader is started.
	maxStarts = 32
	// maxDescriptors includes those of the Go runtime.
	maxDescriptors = 32
	// heapGoal is the memory in bytes at which it collects garbage.
	heapGoal = 4 << 20
)

// RunHelper must be called at the beginning of main, and of TestMain in tests: a [Helper] starts this program again. In
// such a process RunHelper returns true when the process that started it has ended. Then the program must exit.
func RunHelper() bool {
	switch os.Getenv(processVariable) {
	case supervisor:
		supervise()
	case reader:
		serve()
	default:
		return false
	}
	return true
}

// spawn starts this program in a part, on the calling thread, which must be locked. The kernel kills it when the thread
// ends.
func spawn(part string, socket uintptr, as *syscall.Credential) (pid int, err error) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(null)
	return syscall.ForkExec("/proc/self/exe", []string{"closetrace-symbols", processArgument}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{processVariable + "=" + part, "GOMAXPROCS=1", "GOTRACEBACK=none"},
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), socket},
		Sys:   &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGKILL, Setsid: part == supervisor},
	})
}

// supervise starts the reader, and starts it again if it ends before the socket.
func supervise() {
	runtime.LockOSThread()
	if err := dropAll(); err != nil {
		return
	}
	sacrifice()
	keepToItself()
	for range maxStarts {
		pid, err := spawn(reader, socketFD, nil)
		if errors.Is(err, unix.EACCES) {
			serve() // only the user that started closetrace may execute it
			return
		}
		if err != nil {
			return
		}
		var status unix.WaitStatus
		for {
			if _, err = unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
				break
			}
		}
		if err != nil || status.Exited() && status.ExitStatus() == 0 {
			return
		}
		if _, err := unix.Write(socketFD, appendAnswer(nil, 0, crashed, nil)); err != nil {
			return
		}
	}
}

// dropAll drops the privileges of this process for good: those of root if it is still root, and all capabilities.
func dropAll() error {
	if os.Geteuid() == 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			return err
		}
	}
	for _, call := range [][4]uintptr{
		{unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0},
		{unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0},
		{unix.SYS_CAPSET, uintptr(unsafe.Pointer(&capHeader)), uintptr(unsafe.Pointer(&noCapabilities)), 0},
	} {
		_, _, errno := syscall.AllThreadsSyscall6(call[0], call[1], call[2], call[3], 0, 0, 0)
		if errno == unix.ENOTSUP { // built with cgo: of this thread, which starts the reader
			_, _, errno = unix.RawSyscall6(call[0], call[1], call[2], call[3], 0, 0, 0)
		}
		if errno != 0 {
			return errno
		}
	}
	return nil
}

// The arguments of capset(2).
var (
	capHeader      = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	noCapabilities [2]unix.CapUserData
)

// unprivileged returns an error if this process has privileges.
func unprivileged() error {
	var held [2]unix.CapUserData
	header := capHeader
	if err := unix.Capget(&header, &held[0]); err != nil {
		return err
	}
	if held != noCapabilities || os.Geteuid() == 0 || os.Getuid() == 0 {
		return errors.New("privileged")
	}
	return nil
}

// keepToItself keeps descriptors that this process inherited from the reader.
func keepToItself() {
	const first, last = socketFD + 1, 1 << 16
	if unix.CloseRange(first, last, unix.CLOSE_RANGE_CLOEXEC) == nil { // 5.11
		return
	}
	for fd := first; fd < 1<<10; fd++ {
		unix.CloseOnExec(fd)
	}
}

// serve is the reader: it answers requests until the socket ends.
func serve() {
	debug.SetMemoryLimit(heapGoal)
	if err := confine(); err != nil {
		os.Exit(1)
	}
	request, rights := make([]byte, maxRequest+1), make([]byte, unix.CmsgSpace(4))
	for {
		n, control, _, _, err := unix.Recvmsg(socketFD, request, rights, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || n == 0:
			return
		}
		answer, err := serveOne(request[:n], rights[:control])
		if err != nil {
			os.Exit(1)
		}
		if _, err := unix.Write(socketFD, answer); err != nil {
			return
		}
	}
}

// serveOne answers one request.
func serveOne(request, rights []byte) ([]byte, error) {
	file, err := received(rights)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	id, offsets, err := parseRequest(request)
	if err != nil {
		return nil, err
	}
	defer time.AfterFunc(killTime, func() { os.Exit(1) }).Stop()
	if err := limitCPU(); err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return appendAnswer(nil, id, failed, nil), nil
	}
	names, err := Lookup(file, info.Size(), offsets, time.Now().Add(lookupTime))
	if err != nil {
		return appendAnswer(nil, id, failed, nil), nil
	}
	return appendAnswer(nil, id, answered, names), nil
}

// received returns the file of a request.
func received(rights []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return nil, errors.New("no descriptor")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("not one descriptor")
	}
	return os.NewFile(uintptr(fds[0]), "file"), nil
}

// confine limits what the process may do.
func confine() error {
	if err := unprivileged(); err != nil {
		return err
	}
	sacrifice()
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	for _, l := range []struct {
		resource int
		limit    uint64
	}{
		{unix.RLIMIT_DATA, maxData}, {unix.RLIMIT_NOFILE, maxDescriptors}, {unix.RLIMIT_FSIZE, 0}, {unix.RLIMIT_CORE, 0},
	} {
		if err := syscall.Setrlimit(l.resource, &syscall.Rlimit{Cur: l.limit, Max: l.limit}); err != nil {
			return err
		}
	}
	return nil
}

// sacrifice makes the process the first one that the OOM killer chooses. It may fail.
func sacrifice() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) }

// limitCPU bounds the CPU time of the next look-up to some seconds, in case that nothing else does.
func limitCPU() error {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return err
	}
	limit := uint64(used.Utime.Sec+used.Stime.Sec) + 3
	return syscall.Setrlimit(unix.RLIMIT_CPU, &syscall.Rlimit{Cur: limit, Max: unix.RLIM_INFINITY})
}
