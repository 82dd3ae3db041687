package enrich

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

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
	eachTable(root, func(pid uint32, fds string) bool { return found.add(pid, fds, wanted) })
	return found
}

// eachTable shows the directory of descriptors of every process in a /proc, from
// the lowest id to the highest. Where it has none, as has tells, the threads'
// directories follow.
func eachTable(root string, has func(pid uint32, fds string) bool) {
	for _, pid := range ids(root) {
		process := filepath.Join(root, id(pid))
		if has(pid, filepath.Join(process, "fd")) {
			continue
		}
		// The first thread may have ended before the others. A kernel thread
		// has no descriptors either, and no others.
		threads := filepath.Join(process, "task")
		for _, tid := range ids(threads) {
			if tid != pid && has(pid, filepath.Join(threads, id(tid), "fd")) {
				break
			}
		}
	}
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

// readTask says what a process is called and whose it is; nil if it is gone, or
// if another one has its id that began later than seen (time since boot).
func readTask(root string, pid, uid uint32, seen time.Duration) *events.Task {
	process := filepath.Join(root, id(pid))
	comm, err := os.ReadFile(filepath.Join(process, "comm"))
	if err != nil {
		return nil
	}
	t := &events.Task{PID: pid, TID: pid, UID: uid, Comm: strings.TrimSuffix(string(comm), "\n")}
	if status, err := os.ReadFile(filepath.Join(process, "status")); err == nil {
		t.UID = realUID(string(status), uid)
	}
	// Read last, because the id may pass on meanwhile.
	stat, err := os.ReadFile(filepath.Join(process, "stat"))
	if err != nil || began(string(stat)) > seen {
		return nil
	}
	return t
}

// realUID is that of a process's status file, or else uid.
func realUID(status string, uid uint32) uint32 {
	for line := range strings.Lines(status) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "Uid:" {
			continue
		}
		if real, err := strconv.ParseUint(words[1], 10, 32); err == nil {
			return uint32(real)
		}
	}
	return uid
}

// began takes from a process's stat file when it was started, after boot. The
// field is in USER_HZ, which is 100 on every architecture that closetrace
// supports.
func began(stat string) time.Duration {
	// The comm before it, in parentheses, may hold anything.
	words := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const startTime = 22 - 3 // words after the comm, which is the second
	if len(words) <= startTime {
		return 0
	}
	ticks, err := strconv.ParseUint(words[startTime], 10, 63)
	if err != nil {
		return 0
	}
	return time.Duration(ticks) * (time.Second / 100)
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
