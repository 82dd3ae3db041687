package enrich

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/sockets"
)

// Processes returns what a /proc shows of processes, by their ids. It leaves out those that have ended.
func Processes(root string, pids map[uint32]bool) map[uint32]*sockets.Process {
	r := processReader{root: root, known: map[uint32]*status{}}
	r.cgroups, r.noCgroups = FindCgroups(root)
	found := map[uint32]*sockets.Process{}
	for pid := range pids {
		if p := r.process(pid); p != nil {
			found[pid] = p
		}
	}
	return found
}

// KeptByExec reports whether a descriptor is known to stay open when its process executes another program. tid is the
// thread whose table has it; 0: that of the process.
func KeptByExec(root string, pid, tid uint32, fd int) bool {
	dir := filepath.Join(root, id(pid))
	if tid != 0 {
		dir = filepath.Join(dir, "task", id(tid))
	}
	text, err := readFile(filepath.Join(dir, "fdinfo", strconv.Itoa(fd)))
	if err != nil {
		return false
	}
	flags, ok := field(string(text), "flags:")
	n, err := strconv.ParseUint(flags, 8, 64)
	return ok && err == nil && n&unix.O_CLOEXEC == 0
}

// processReader reads processes. It reads the status of each only once, because many have the same ancestors.
type processReader struct {
	root      string
	cgroups   CgroupMount
	noCgroups error // cgroup v2 is not mounted
	known     map[uint32]*status
}

// status is what the stat file of a process says. The state is that of its first thread.
type status struct {
	comm   string
	state  byte
	parent uint32
	began  time.Duration // since boot
}

func (r *processReader) process(pid uint32) *sockets.Process {
	s := r.status(pid)
	if s == nil {
		return nil
	}
	p := &sockets.Process{State: r.state(pid, s), DescriptorLimit: r.descriptorLimit(pid), Ancestors: r.ancestors(s)}
	if p.DescriptorLimit > 0 {
		p.Descriptors = countDescriptors(filepath.Join(r.root, id(pid), "fd"), p.DescriptorLimit)
	}
	return p
}

// status returns the status of a process, or nil if it has ended.
func (r *processReader) status(pid uint32) *status {
	if s, known := r.known[pid]; known {
		return s
	}
	var s *status
	if text, err := readFile(filepath.Join(r.root, id(pid), "stat")); err == nil {
		s = parseStatus(string(text))
	}
	r.known[pid] = s
	return s
}

// parseStatus parses a stat file: PID (COMM) STATE PARENT … The comm may contain any characters.
func parseStatus(text string) *status {
	first, last := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	words := strings.Fields(text[last+1:])
	if first < 0 || last < first || len(words) < 2 {
		return nil
	}
	parent, err := strconv.ParseUint(words[1], 10, 32)
	if err != nil {
		return nil
	}
	return &status{text[first+1 : last], words[0][0], uint32(parent), began(text)}
}

// maxAncestors bounds the ancestors of a process that are looked at.
const maxAncestors = 32

// ancestors returns the ancestors of a process, the parent first. It ends where a process began later than its child,
// because an id was used again meanwhile.
func (r *processReader) ancestors(of *status) (all []sockets.Ancestor) {
	for len(all) < maxAncestors && of.parent != 0 {
		s := r.status(of.parent)
		if s == nil || s.began > of.began {
			break
		}
		all = append(all, sockets.Ancestor{PID: of.parent, Comm: s.comm})
		of = s
	}
	return all
}

// state returns why a process makes no calls. A frozen process of cgroup v2 looks like a sleeping one.
func (r *processReader) state(pid uint32, s *status) sockets.ProcessState {
	switch {
	case r.frozen(pid):
		return sockets.Frozen
	case s.state == 'T':
		return sockets.Stopped
	case s.state == 't':
		return sockets.Traced
	case s.state == 'D':
		return sockets.Uninterruptible
	}
	return ""
}

// frozen reports whether the cgroup (v2) of a process, or one above it, is frozen.
func (r *processReader) frozen(pid uint32) bool {
	if r.noCgroups != nil {
		return false
	}
	text, err := readFile(filepath.Join(r.root, id(pid), "cgroup"))
	if err != nil {
		return false
	}
	path, ok := cgroupOf(string(text))
	if !ok {
		return false
	}
	folder, err := r.cgroups.Folder(path)
	if err != nil {
		return false
	}
	if text, err = readFile(filepath.Join(folder, "cgroup.events")); err != nil { // the root has none
		return false
	}
	value, _ := field(string(text), "frozen")
	return value == "1"
}

// ProcessCgroup returns the path of the cgroup (v2) of a process below root, /proc, or "" if it is not known.
func ProcessCgroup(root string, pid uint32) string {
	text, err := readFile(filepath.Join(root, id(pid), "cgroup"))
	if err != nil {
		return ""
	}
	path, _ := cgroupOf(string(text))
	return path
}

// cgroupOf returns the path of the cgroup (v2) in a file /proc/PID/cgroup. One outside of the reader's namespace of
// cgroups begins with /.. and cannot be looked at.
func cgroupOf(text string) (path string, ok bool) {
	for line := range strings.Lines(text) {
		if path, ok = strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path, !strings.Contains(path+"/", "/../")
		}
	}
	return "", false
}

// descriptorLimit returns the soft RLIMIT_NOFILE of a process, or 0 if it is not known.
func (r *processReader) descriptorLimit(pid uint32) uint64 {
	text, err := readFile(filepath.Join(r.root, id(pid), "limits"))
	if err != nil {
		return 0
	}
	soft, _ := field(string(text), "Max open files")
	n, err := strconv.ParseUint(soft, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// countDescriptors returns how many descriptors below a limit are in a directory /proc/PID/fd, or 0 if that is not
// known. From Linux 6.2 on the size of the directory is their number, which everybody may see.
func countDescriptors(dir string, limit uint64) (n uint64) {
	if info, err := os.Stat(dir); err == nil && info.Size() > 0 && uint64(info.Size()) < limit {
		return uint64(info.Size())
	}
	_ = eachName(dir, func(name string) bool {
		if fd, err := strconv.ParseUint(name, 10, 64); err == nil && fd < limit {
			n++
		}
		return n < limit
	})
	return n
}

// field returns the first word after a name at the start of a line.
func field(text, name string) (value string, ok bool) {
	for line := range strings.Lines(text) {
		if rest, found := strings.CutPrefix(line, name); found {
			if words := strings.Fields(rest); len(words) > 0 {
				return words[0], true
			}
		}
	}
	return "", false
}
