package enrich

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/closetrace/closetrace/internal/sockets"
)

// Holders searches a /proc for the processes that hold the sockets with these inodes. hidden is the number of processes
// whose descriptors may not be read.
func Holders(root string, inodes sockets.Inodes) (found *sockets.Holders, hidden int) {
	return holdersAt(root, inodes, sinceUp())
}

// holdersAt is Holders at a time since boot.
func holdersAt(root string, inodes sockets.Inodes, now time.Duration) (found *sockets.Holders, hidden int) {
	found = &sockets.Holders{}
	if inodes.Len() == 0 {
		return found, 0
	}
	eachTable(root, func(pid uint32, dir string) bool {
		fds, any, denied := descriptors(dir, inodes)
		if denied {
			hidden++
		}
		if len(fds) == 0 {
			return any || denied
		}
		task := readTask(root, pid, 0, now)
		if task == nil {
			return true
		}
		h := sockets.Holder{PID: pid, Comm: task.Comm, UID: task.UID}
		h.Parent, h.Age = descent(root, pid, now)
		number := found.Add(h)
		for _, d := range fds {
			found.Hold(number, d.inode, d.fd)
		}
		return true
	})
	return found, hidden
}

// descriptor is one of a socket.
type descriptor struct {
	inode uint64
	fd    int
}

// descriptors returns the descriptors of the sockets in a directory /proc/PID/fd, and whether it has any descriptors at
// all.
func descriptors(dir string, inodes sockets.Inodes) (fds []descriptor, any, denied bool) {
	err := eachName(dir, func(name string) bool {
		any = true
		link, err := os.Readlink(filepath.Join(dir, name))
		if denied = errors.Is(err, fs.ErrPermission); denied {
			return false
		}
		inode, ok := socketInode(link)
		if !ok || !inodes.Has(inode) {
			return true
		}
		if fd, err := strconv.Atoi(name); err == nil {
			fds = append(fds, descriptor{inode, fd})
		}
		return true
	})
	if denied || errors.Is(err, fs.ErrPermission) {
		return nil, any, true
	}
	return fds, any, false
}

// descent returns the parent and the age of a process. now is the time since boot.
func descent(root string, pid uint32, now time.Duration) (parent uint32, age time.Duration) {
	text, err := readFile(filepath.Join(root, id(pid), "stat"))
	if err != nil {
		return 0, 0
	}
	s := parseStatus(string(text))
	if s == nil {
		return 0, 0
	}
	return s.parent, max(now-s.began, 0)
}
