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

// holders holds the processes that hold sockets, by inode.
type holders map[uint64]holder

// holder is the processes that hold a socket.
type holder struct {
	pid    uint32 // the lowest
	last   uint32 // the highest so far
	others uint32 // number of processes besides pid
}

// maxSockets bounds the number of sockets that a scan keeps: about 4 MB.
const maxSockets = 1 << 16

// holdersIn scans a whole /proc. It skips what it cannot read, because processes end meanwhile or may not be inspected.
// Beyond maxSockets it keeps only the wanted socket.
func holdersIn(root string, wanted uint64) holders {
	found := holders{}
	eachTable(root, func(pid uint32, fds string) bool { return found.add(pid, fds, wanted) })
	return found
}

// eachTable calls visit with the descriptor directory of every process in a /proc, in ascending order of ids. If visit
// returns false, because that directory has no descriptors, it continues with those of the threads.
func eachTable(root string, visit func(pid uint32, fds string) bool) {
	for _, pid := range ids(root) {
		process := filepath.Join(root, id(pid))
		if visit(pid, filepath.Join(process, "fd")) {
			continue
		}
		// The first thread may have ended before the others. A kernel thread has neither descriptors nor other
		// threads.
		threads := filepath.Join(process, "task")
		for _, tid := range ids(threads) {
			if tid != pid && visit(pid, filepath.Join(threads, id(tid), "fd")) {
				break
			}
		}
	}
}

// add keeps the sockets among the descriptors of a process, and reports whether it has any descriptors.
func (h holders) add(pid uint32, fds string, wanted uint64) (any bool) {
	_ = eachName(fds, func(name string) bool {
		any = true
		link, err := os.Readlink(filepath.Join(fds, name))
		if err != nil {
			return true
		}
		inode, ok := socketInode(link)
		if !ok {
			return true
		}
		at, known := h[inode]
		switch {
		case !known && len(h) >= maxSockets && inode != wanted:
			return true
		case !known:
			at.pid = pid
		case at.last != pid:
			at.others++
		}
		at.last = pid
		h[inode] = at
		return true
	})
	return any
}

// socketInode returns N of socket:[N].
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

// readTask returns the name and the user of a process, or nil if it has ended or if the process with its id started
// later than seen (time since boot).
func readTask(root string, pid, uid uint32, seen time.Duration) *events.Task {
	process := filepath.Join(root, id(pid))
	comm, err := readFile(filepath.Join(process, "comm"))
	if err != nil {
		return nil
	}
	t := &events.Task{PID: pid, TID: pid, UID: uid, Comm: strings.TrimSuffix(string(comm), "\n")}
	if status, err := readFile(filepath.Join(process, "status")); err == nil {
		t.UID = realUID(string(status), uid)
	}
	// Read last, because the id may be reused meanwhile.
	stat, err := readFile(filepath.Join(process, "stat"))
	if err != nil || began(string(stat)) > seen {
		return nil
	}
	return t
}

// realUID returns the real user id of a process's status file, or uid.
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

// began returns the start of a process from its stat file, since boot. The field is in USER_HZ, which is 100 on every
// architecture that closetrace supports.
func began(stat string) time.Duration {
	// The comm before it, in parentheses, may contain any characters.
	words := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const startTime = 22 - 3 // words after the comm, which is the second
	if len(words) <= startTime {
		return 0
	}
	ticks, err := strconv.ParseUint(words[startTime], 10, 39) // of which a Duration holds all
	if err != nil {
		return 0
	}
	return time.Duration(ticks) * (time.Second / 100)
}

// ids returns the names in a directory that are process or thread ids, in ascending order.
func ids(dir string) []uint32 {
	var all []uint32
	_ = eachName(dir, func(name string) bool { // none, if it cannot be read
		if n, err := strconv.ParseUint(name, 10, 32); err == nil && n != 0 {
			all = append(all, uint32(n))
		}
		return true
	})
	slices.Sort(all)
	return all
}

func id(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
