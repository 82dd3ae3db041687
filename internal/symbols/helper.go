//go:build linux

package symbols

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is the user and group of a helper that root starts.
const nobody = 65534

// answerTime is how long [Helper.Names] waits for an answer. The reader ends before.
const answerTime = time.Second

// ErrNoHelper means that the helper has ended for good, or does not answer.
var ErrNoHelper = errors.New("no process to read symbols")

// ErrFile means that a file cannot be read within the limits: it is damaged, too large or too slow.
var ErrFile = errors.New("file too large, too slow or damaged")

// Helper is two processes without privileges: one reads files, and the other starts it again if it ends. They end with
// this process.
type Helper struct {
	mu       sync.Mutex
	fd       int // this end of the socket
	id       uint64
	notUntil time.Time // after no answer
	answer   []byte
}

// Start starts a helper. To change its user, this process must still have CAP_SETUID and CAP_SETGID if it is root.
func Start() (*Helper, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	started := make(chan error)
	go func() {
		// The helper lives as long as this thread.
		runtime.LockOSThread()
		pid, err := spawnUnprivileged(uintptr(pair[1]))
		unix.Close(pair[1])
		started <- err
		for err == nil {
			if _, err = unix.Wait4(pid, nil, 0, nil); err == unix.EINTR {
				err = nil
			} else {
				return
			}
		}
	}()
	if err := <-started; err != nil {
		unix.Close(pair[0])
		return nil, fmt.Errorf("cannot start a process to read symbols: %w", err)
	}
	timeout := unix.NsecToTimeval(int64(answerTime))
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, option, &timeout); err != nil {
			unix.Close(pair[0])
			return nil, err
		}
	}
	return &Helper{fd: pair[0], answer: make([]byte, maxAnswer)}, nil
}

// spawnUnprivileged starts the supervisor, as nobody if this process is root. The supervisor drops what is left. This
// thread must keep its privileges, because the Go runtime ends a process whose threads differ when it drops them.
func spawnUnprivileged(socket uintptr) (pid int, err error) {
	if os.Geteuid() == 0 {
		pid, err = spawn(supervisor, socket, &syscall.Credential{Uid: nobody, Gid: nobody})
		if !errors.Is(err, unix.EACCES) {
			return pid, err
		}
		// Only root may execute this program, so it drops its privileges itself.
	}
	return spawn(supervisor, socket, nil)
}

// Close ends the helper.
func (h *Helper) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fd < 0 {
		return nil
	}
	err := unix.Close(h.fd)
	h.fd = -1
	return err
}

// Names names the functions at offsets of a file, at most [MaxOffsets]. Its error is [ErrFile] or [ErrNoHelper]. It may
// be called by several goroutines.
func (h *Helper) Names(file *os.File, offsets []uint64) ([]Name, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fd < 0 || time.Now().Before(h.notUntil) {
		return nil, ErrNoHelper
	}
	h.id++
	names, err := h.ask(file, offsets)
	if errors.Is(err, ErrNoHelper) {
		h.notUntil = time.Now().Add(10 * answerTime)
	}
	return names, err
}

// discard reads what came too late for an earlier request.
func (h *Helper) discard() {
	for {
		n, _, err := unix.Recvfrom(h.fd, h.answer, unix.MSG_DONTWAIT)
		if err != nil || n == 0 {
			return
		}
	}
}

func (h *Helper) ask(file *os.File, offsets []uint64) ([]Name, error) {
	h.discard()
	request := appendRequest(nil, h.id, offsets)
	if err := unix.Sendmsg(h.fd, request, unix.UnixRights(int(file.Fd())), nil, unix.MSG_NOSIGNAL); err != nil {
		return nil, ErrNoHelper
	}
	for deadline := time.Now().Add(answerTime); time.Now().Before(deadline); {
		n, err := unix.Read(h.fd, h.answer)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || n == 0:
			return nil, ErrNoHelper
		}
		id, status, names, err := parseAnswer(h.answer[:n], len(offsets))
		switch {
		case id == 0 && status == crashed:
			return nil, ErrFile // during this look-up, or by its request
		case id != h.id:
			continue // of an earlier request, too late
		case err != nil || status != answered:
			return nil, ErrFile
		}
		return names, nil
	}
	return nil, ErrNoHelper
}
