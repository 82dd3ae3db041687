package command

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/hint"
)

// Cgroup is a cgroup (v2) for a command. All processes that the command starts are
// in it or in one below it, and cannot leave it by forking.
type Cgroup struct {
	dir, parent string // directories
	path        string // as in /proc/PID/cgroup
	proc        string // /proc
	fd          *os.File
	known       map[uint64]bool // by id: whether it is this one or one below it
}

// NewCgroup makes a cgroup below this process's own.
func NewCgroup(proc string) (*Cgroup, error) {
	g, err := makeCgroup(proc)
	if err != nil {
		return nil, &hint.Error{
			Kind: hint.Unsupported, What: "cannot make a cgroup for the command: " + err.Error(),
			Hint: "mount cgroup v2 writable: mount -t cgroup2 none /sys/fs/cgroup; in a container: --privileged --cgroupns=host",
		}
	}
	return g, nil
}

func makeCgroup(proc string) (*Cgroup, error) {
	parent, path, err := cgroupPlace(proc)
	if err != nil {
		return nil, err
	}
	name, err := makeUnused(parent, "closetrace-run-"+strconv.Itoa(os.Getpid()))
	if err != nil {
		return nil, err
	}
	g := &Cgroup{
		dir: filepath.Join(parent, name), parent: parent, path: filepath.Join(path, name),
		proc: proc, known: map[uint64]bool{},
	}
	if g.fd, err = os.Open(g.dir); err != nil {
		return nil, errors.Join(err, os.Remove(g.dir))
	}
	return g, nil
}

// makeUnused makes a directory with this name, or the first of name-2, name-3... that does not exist, and returns its
// name. A closetrace that SIGKILL ended leaves its cgroup behind, and a process id comes again.
func makeUnused(parent, name string) (string, error) {
	const most = 1000
	for n := 1; ; n++ {
		unused := name
		if n > 1 {
			unused += "-" + strconv.Itoa(n)
		}
		err := os.Mkdir(filepath.Join(parent, unused), 0o755)
		if !errors.Is(err, fs.ErrExist) || n == most {
			return unused, err
		}
	}
}

// cgroupPlace returns the directory of this process's own cgroup, and its path as in
// /proc/PID/cgroup.
func cgroupPlace(proc string) (dir, path string, err error) {
	if path, err = cgroupOf(proc, "self"); err != nil {
		return "", "", err
	}
	mount, err := enrich.FindCgroups(proc)
	if err != nil {
		return "", "", err
	}
	dir, err = mount.Folder(path)
	return dir, path, err
}

// cgroupOf returns the path of a process's cgroup.
func cgroupOf(proc, pid string) (string, error) {
	text, err := os.ReadFile(filepath.Join(proc, pid, "cgroup"))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n"), nil
		}
	}
	return "", errors.New("this kernel has no cgroup v2")
}

// Join makes a process that is not started yet start in the cgroup.
func (g *Cgroup) Join(attr *syscall.SysProcAttr) {
	attr.UseCgroupFD, attr.CgroupFD = true, int(g.fd.Fd())
}

// Contains reports whether id is the cgroup's or that of one below it. A cgroup
// below it that was removed before the first call with its id is not found.
func (g *Cgroup) Contains(id uint64) bool {
	contained, ok := g.known[id]
	if !ok {
		g.known[id] = false
		g.each(func(dir string) {
			var st unix.Stat_t
			if unix.Stat(dir, &st) == nil {
				g.known[st.Ino] = true
			}
		})
		contained = g.known[id]
	}
	return contained
}

// ContainsProcess reports whether a process is in the cgroup now.
func (g *Cgroup) ContainsProcess(pid uint32) bool {
	path, err := cgroupOf(g.proc, strconv.Itoa(int(pid)))
	return err == nil && (path == g.path || strings.HasPrefix(path, g.path+"/"))
}

// each calls do with the directory of the cgroup and of those below, deepest last.
func (g *Cgroup) each(do func(dir string)) {
	// It skips cgroups that are removed meanwhile.
	_ = filepath.WalkDir(g.dir, func(dir string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			do(dir)
		}
		return nil
	})
}

// Close removes the cgroup. It moves the processes that are left to the cgroup of
// closetrace, and returns how many there were.
func (g *Cgroup) Close() (left int, err error) {
	g.fd.Close()
	moved := map[string]bool{}
	for range 10 { // processes may fork meanwhile
		var dirs []string
		g.each(func(dir string) {
			dirs = append(dirs, dir)
			for _, pid := range processesIn(dir) {
				moved[pid] = true
				_ = os.WriteFile(filepath.Join(g.parent, "cgroup.procs"), []byte(pid), 0)
			}
		})
		slices.Reverse(dirs)
		err = nil
		for _, dir := range dirs {
			err = cmp.Or(err, os.Remove(dir))
		}
		if err == nil {
			break
		}
	}
	return len(moved), err
}

func processesIn(dir string) []string {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}
