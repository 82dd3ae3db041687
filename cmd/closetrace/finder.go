package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/runtimes"
)

// finder looks up what filters name: processes, network namespaces, cgroups.
type finder struct {
	proc  string // /proc
	named string // where ip-netns(8) keeps namespaces: /run/netns
	// cgroups are those of version 2.
	cgroups func() (enrich.CgroupMount, error)
	// inode returns the inode number of the network namespace behind a path.
	inode func(path string) (uint32, error)
	// runtimes are asked for names of containers; none of them where names are not
	// wanted.
	runtimes []*runtimes.API
}

// process checks that a process with this id runs. A thread's id is refused,
// because no ending would ever match it.
func (f *finder) process(pid uint32) error {
	status, err := os.ReadFile(filepath.Join(f.proc, strconv.Itoa(int(pid)), "status"))
	if err != nil {
		return &usageError{fmt.Sprintf("no process has the id %d", pid), "ps -e lists the processes"}
	}
	for line := range strings.Lines(string(status)) {
		leader, found := strings.CutPrefix(line, "Tgid:")
		leader = strings.TrimSpace(leader)
		if found && leader != strconv.Itoa(int(pid)) {
			return &usageError{
				fmt.Sprintf("%d is a thread of process %s", pid, leader),
				"filter by the process: -p " + leader,
			}
		}
	}
	return nil
}

// netns returns the inode number of the network namespace that text names: a
// name of ip-netns(8), a path, a process id, or inode:N.
//
// A number is a process id, because that is what is at hand; a namespace whose
// name is a number is reached by its path, one known by its inode number alone
// as inode:N. That N is taken as it is: a namespace need not have a file.
func (f *finder) netns(text string) (uint32, error) {
	if number, ok := strings.CutPrefix(text, "inode:"); ok {
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || n == 0 {
			return 0, &usageError{fmt.Sprintf("%q is not an inode number", number), "readlink /proc/PID/ns/net shows it"}
		}
		return uint32(n), nil
	}
	path, hint := f.netnsPath(text)
	inode, err := f.inode(path)
	switch {
	case err == nil:
		return inode, nil
	case errors.Is(err, fs.ErrPermission):
		return 0, &kernel.Error{
			Kind: kernel.ErrPrivilege,
			What: fmt.Sprintf("network namespace %q cannot be looked at: %v", text, err),
			Next: "run as root: sudo closetrace",
		}
	case errors.Is(err, fs.ErrNotExist):
		return 0, &usageError{fmt.Sprintf("no network namespace %q", text), hint}
	}
	return 0, &usageError{fmt.Sprintf("%q is not a network namespace: %v", text, err), hint}
}

// noCgroups is an error for filters by cgroup where there are none.
func noCgroups(err error) error {
	return &kernel.Error{
		Kind: kernel.ErrUnsupported, What: "no filter by cgroup is possible: " + err.Error(),
		Next: "it takes cgroup v2, mounted, as by mount -t cgroup2 none /sys/fs/cgroup; in a container: --cgroupns=host",
	}
}

// cgroup returns the id of the cgroup (v2) that text names: by its path as in
// /proc/PID/cgroup, or by its folder.
func (f *finder) cgroup(text string) (uint64, error) {
	mount, err := f.cgroups()
	if err != nil {
		return 0, noCgroups(err)
	}
	path := cmp.Or(mount.Path(strings.TrimRight(text, "/")), cgroupPath(text))
	folder, err := mount.Folder(path)
	if err != nil {
		return 0, noCgroups(err)
	}
	id, err := mount.ID(folder)
	if err != nil || mount.Path(folder) == "" { // as by ..
		return 0, &usageError{fmt.Sprintf("no cgroup %q", text), "systemd-cgls lists cgroups, the line 0:: of /proc/PID/cgroup is that of a process"}
	}
	return id, nil
}

// everyNetns finds the network namespaces that a process is in or that have a name,
// each with a path to it by its inode number, and how many could not be looked at. One
// that is only held open, as by a socket, has no path.
func (f *finder) everyNetns() (paths map[uint32]string, hidden int) {
	paths = map[uint32]string{}
	for _, file := range f.netnsFiles() {
		inode, err := f.inode(file)
		if _, known := paths[inode]; err == nil && !known {
			paths[inode] = file
		}
		if errors.Is(err, fs.ErrPermission) {
			hidden++
		}
	}
	return paths, hidden
}

// netnsFiles are where network namespaces may be. What is hidden is among them.
func (f *finder) netnsFiles() (files []string) {
	processes, _ := os.ReadDir(f.proc) // without it, there are names still
	for _, p := range processes {
		if _, err := strconv.ParseUint(p.Name(), 10, 32); err == nil {
			files = append(files, filepath.Join(f.proc, p.Name(), "ns/net"))
		}
	}
	names, _ := os.ReadDir(f.named) // there is none before the first name
	for _, n := range names {
		files = append(files, filepath.Join(f.named, n.Name()))
	}
	return files
}

// netnsPath is where the namespace's file would be, and what to do if it is not
// there.
func (f *finder) netnsPath(text string) (path, hint string) {
	if strings.Contains(text, "/") {
		return text, "a path looks like /run/netns/NAME or /proc/PID/ns/net"
	}
	if _, err := strconv.ParseUint(text, 10, 32); err == nil {
		return filepath.Join(f.proc, text, "ns/net"), "a number is a process id; say inode:" + text + " for an inode number"
	}
	if text == "" || text == "." || text == ".." {
		text = "-" // no name, so that there is no such file
	}
	return filepath.Join(f.named, text), "ip netns lists the names; a path, a process id or inode:N will do as well"
}

// netnsInode asks the kernel. A file that is not a network namespace is an
// error.
func netnsInode(path string) (uint32, error) {
	// A path may lead to a FIFO, which must not block.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return 0, errors.New("it is another kind of file")
	}
	if kind != unix.CLONE_NEWNET {
		return 0, errors.New("it is another kind of namespace")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	return uint32(st.Ino), nil
}
