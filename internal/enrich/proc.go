package enrich

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/closetrace/closetrace/internal/events"
)

// holders says who holds which socket, by inode.
type holders map[uint64]holder

// holder is the processes that hold a socket.
type holder struct {
	pid    uint32 // the lowest
	last   uint32 // the highest so far
	others uint32 // how many besides the lowest
}

// maxSockets bounds what a scan keeps: about 4 MB.
const maxSockets = 1 << 16

// holdersIn scans all of a /proc. Processes come and go meanwhile, and some may
// not be looked at: what cannot be read is left out. Beyond maxSockets only the
// one that is asked for is kept.
func holdersIn(root string, wanted uint64) holders {
	found := holders{}
	for _, pid := range ids(root) {
		process := filepath.Join(root, id(pid))
		if found.add(pid, filepath.Join(process, "fd"), wanted) {
			continue
		}
		// The first thread may have ended before the others. A kernel thread
		// has no descriptors either, and no others.
		threads := filepath.Join(process, "task")
		for _, tid := range ids(threads) {
			if tid != pid && found.add(pid, filepath.Join(threads, id(tid), "fd"), wanted) {
				break
			}
		}
	}
	return found
}

// add keeps the sockets among the descriptors of a process, and tells whether
// it has descriptors at all.
func (h holders) add(pid uint32, fds string, wanted uint64) bool {
	names := list(fds)
	for _, name := range names {
		link, err := os.Readlink(filepath.Join(fds, name))
		if err != nil {
			continue
		}
		inode, ok := socketInode(link)
		if !ok {
			continue
		}
		at, known := h[inode]
		switch {
		case !known && len(h) >= maxSockets && inode != wanted:
			continue
		case !known:
			at.pid = pid
		case at.last != pid:
			at.others++
		}
		at.last = pid
		h[inode] = at
	}
	return len(names) > 0
}

// socketInode takes N from socket:[N].
func socketInode(link string) (uint64, bool) {
	digits, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, false
	}
	digits, ok = strings.CutSuffix(digits, "]")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(digits, 10, 64)
	return inode, err == nil && inode != 0
}

// readTask says what a process is called and whose it is; nil if it is gone.
func readTask(root string, pid, uid uint32) *events.Task {
	process := filepath.Join(root, id(pid))
	comm, err := os.ReadFile(filepath.Join(process, "comm"))
	if err != nil {
		return nil
	}
	t := &events.Task{PID: pid, TID: pid, UID: uid, Comm: strings.TrimSuffix(string(comm), "\n")}
	status, err := os.ReadFile(filepath.Join(process, "status"))
	if err != nil {
		return t
	}
	for line := range strings.Lines(string(status)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "Uid:" {
			continue
		}
		if real, err := strconv.ParseUint(words[1], 10, 32); err == nil {
			t.UID = uint32(real)
		}
	}
	return t
}

// ids are the names of a directory that are process or thread ids, from low to
// high.
func ids(dir string) []uint32 {
	var all []uint32
	for _, name := range list(dir) {
		if n, err := strconv.ParseUint(name, 10, 32); err == nil && n != 0 {
			all = append(all, uint32(n))
		}
	}
	slices.Sort(all)
	return all
}

// list is the names in a directory, none if it cannot be read.
func list(dir string) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1) // as many as there are, if it vanishes meanwhile
	return names
}

func id(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
