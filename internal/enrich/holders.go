package enrich

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Holder is a process that has a socket open.
type Holder struct {
	events.Task
	Parent uint32        // the id of its parent process
	Age    time.Duration // since it was started
	FDs    []int         // its descriptors of the socket, from low to high
}

// Holders scans a /proc for all who hold one of the sockets, which are given by
// their inodes; of each, the process with the lowest id comes first. Hidden is how
// many processes may not be looked at.
func Holders(root string, wanted map[uint64]bool) (found map[uint64][]Holder, hidden int) {
	return holdersAt(root, wanted, sinceUp())
}

// holdersAt is Holders at a time since boot.
func holdersAt(root string, wanted map[uint64]bool, now time.Duration) (found map[uint64][]Holder, hidden int) {
	found = map[uint64][]Holder{}
	if len(wanted) == 0 {
		return found, 0
	}
	eachTable(root, func(pid uint32, fds string) bool {
		mine, has, denied := descriptors(fds, wanted)
		if denied {
			hidden++
		}
		if len(mine) == 0 {
			return has || denied
		}
		task := readTask(root, pid, 0, now)
		if task == nil {
			return true
		}
		h := Holder{Task: *task}
		h.Parent, h.Age = descent(root, pid, now)
		for inode, fds := range mine {
			slices.Sort(fds)
			h.FDs = fds
			found[inode] = append(found[inode], h)
		}
		return true
	})
	return found, hidden
}

// descriptors are those of the wanted sockets in a directory of descriptors, if it
// has any.
func descriptors(dir string, wanted map[uint64]bool) (mine map[uint64][]int, has, denied bool) {
	if d, err := os.Open(dir); err != nil {
		return nil, false, errors.Is(err, fs.ErrPermission)
	} else {
		d.Close()
	}
	names := list(dir)
	mine = map[uint64][]int{}
	for _, name := range names {
		link, err := os.Readlink(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrPermission) {
			return nil, true, true
		}
		inode, ok := socketInode(link)
		if !ok || !wanted[inode] {
			continue
		}
		if fd, err := strconv.Atoi(name); err == nil {
			mine[inode] = append(mine[inode], fd)
		}
	}
	return mine, len(names) > 0, false
}

// descent is a process's parent and age; now is the time since boot.
func descent(root string, pid uint32, now time.Duration) (parent uint32, age time.Duration) {
	stat, err := os.ReadFile(filepath.Join(root, id(pid), "stat"))
	if err != nil {
		return 0, 0
	}
	// The comm, in parentheses, may hold anything. The parent is the second word
	// after it.
	text := string(stat)
	if words := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]); len(words) > 1 {
		if n, err := strconv.ParseUint(words[1], 10, 32); err == nil {
			parent = uint32(n)
		}
	}
	return parent, max(now-began(text), 0)
}
