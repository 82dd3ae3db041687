package main

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
	"github.com/closetrace/closetrace/internal/kernel"
)

// cgroup is a cgroup (v2) for a command: whatever the command starts is in it,
// too, or in one below it, and cannot leave it by forking.
type cgroup struct {
	dir, parent string // folders
	path        string // as in /proc/PID/cgroup
	proc        string // /proc
	fd          *os.File
	known       map[uint64]bool // ids: whether of this one or one below it
}

// newCgroup makes one below this process's own.
func newCgroup(proc string) (*cgroup, error) {
	g, err := makeCgroup(proc)
	if err != nil {
		return nil, &kernel.Error{
			Kind: kernel.ErrUnsupported, What: "no cgroup can be made for the command: " + err.Error(),
			Next: "it takes cgroup v2, mounted and writable, as by mount -t cgroup2 none /sys/fs/cgroup; in a container: --privileged --cgroupns=host",
		}
	}
	return g, nil
}

func makeCgroup(proc string) (*cgroup, error) {
	parent, path, err := cgroupPlace(proc)
	if err != nil {
		return nil, err
	}
	name := "closetrace-run-" + strconv.Itoa(os.Getpid())
	g := &cgroup{
		dir: filepath.Join(parent, name), parent: parent, path: filepath.Join(path, name),
		proc: proc, known: map[uint64]bool{},
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, err
	}
	if g.fd, err = os.Open(g.dir); err != nil {
		return nil, errors.Join(err, os.Remove(g.dir))
	}
	return g, nil
}

// cgroupPlace is the folder of this process's own cgroup, and its path as in
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

// cgroupOf is the path of a process's cgroup.
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

// Join makes a process to be started begin in the cgroup.
func (g *cgroup) Join(attr *syscall.SysProcAttr) {
	attr.UseCgroupFD, attr.CgroupFD = true, int(g.fd.Fd())
}

// Holds tells whether an id is that of the cgroup or of one below it. One that
// is gone by now is not known.
func (g *cgroup) Holds(id uint64) bool {
	held, ok := g.known[id]
	if !ok {
		g.known[id] = false
		g.each(func(dir string) {
			var st unix.Stat_t
			if unix.Stat(dir, &st) == nil {
				g.known[st.Ino] = true
			}
		})
		held = g.known[id]
	}
	return held
}

// HoldsProcess tells whether a process is in it now.
func (g *cgroup) HoldsProcess(pid uint32) bool {
	path, err := cgroupOf(g.proc, strconv.Itoa(int(pid)))
	return err == nil && (path == g.path || strings.HasPrefix(path, g.path+"/"))
}

// each calls do with the folder of the cgroup and of those below, deepest last.
func (g *cgroup) each(do func(dir string)) {
	// What goes away meanwhile is left out.
	_ = filepath.WalkDir(g.dir, func(dir string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			do(dir)
		}
		return nil
	})
}

// Close takes the cgroup away. Processes that are left go where closetrace is;
// it returns how many.
func (g *cgroup) Close() (left int, err error) {
	g.fd.Close()
	moved := map[string]bool{}
	for range 10 { // they may fork meanwhile
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
