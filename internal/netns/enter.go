package netns

import (
	"errors"
	"io/fs"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrGone means that the path of a network namespace no longer leads to it.
var ErrGone = errors.New("the network namespace is gone")

// Enter runs do in the network namespace behind path, which must still be the one
// with this inode number: if not, it returns [ErrGone]. An empty path is this
// process's own namespace.
//
// The file is closed before Enter returns, because an open file would keep the
// namespace alive.
func Enter(path string, inode uint32, do func() error) error {
	if path == "" {
		return do()
	}
	result := make(chan error)
	go func() { result <- onThread(path, inode, do) }()
	return <-result
}

// onThread moves the calling goroutine's thread into the namespace, runs do and
// moves the thread back. A thread that cannot go back stays locked and ends with
// its goroutine.
func onThread(path string, inode uint32, do func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	fd, now, err := open(path)
	if err != nil {
		return ErrGone
	}
	defer unix.Close(fd)
	if now != inode {
		return ErrGone
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return &fs.PathError{Op: "enter", Path: path, Err: err}
	}
	err = do()
	if unix.Setns(home, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}
