// Package netns finds network namespaces, enters them and reads their counters.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/rights"
)

// Finder finds network namespaces. [System] returns that of this machine; a test
// can set other roots.
type Finder struct {
	Proc  string // /proc
	Named string // where ip-netns(8) keeps names: /run/netns
	// Inode returns the inode number of the network namespace behind a path.
	Inode func(path string) (uint32, error)
}

// System returns the finder of this machine.
func System() Finder { return Finder{Proc: "/proc", Named: "/run/netns", Inode: Inode} }

// Own returns the inode number of this process's network namespace.
func (f *Finder) Own() (uint32, error) { return f.Inode(filepath.Join(f.Proc, "self/ns/net")) }

// Find returns the inode number and the path of the network namespace that text
// names: a name of ip-netns(8), a path, a process id, or inode:N.
//
// A number is a process id. A namespace whose name is a number is found by its
// path, and one of which only the inode number is known by inode:N. Find does not
// look for the latter, because a namespace need not have a file: its path is empty.
func (f *Finder) Find(text string) (inode uint32, path string, err error) {
	if inode, named := events.NetnsInode(text); named {
		if inode == 0 {
			return 0, "", hint.New(hint.Usage, fmt.Sprintf("%q is not an inode number", strings.TrimPrefix(text, "inode:")),
				"readlink /proc/PID/ns/net shows it")
		}
		return inode, "", nil
	}
	path, next := f.path(text)
	inode, err = f.Inode(path)
	switch {
	case err == nil:
		return inode, path, nil
	case errors.Is(err, fs.ErrPermission):
		return 0, "", hint.New(hint.Privilege,
			fmt.Sprintf("cannot open network namespace %q: %v", text, err),
			"run as root, outside of containers and security profiles: sudo closetrace")
	case errors.Is(err, fs.ErrNotExist):
		return 0, "", hint.New(hint.Usage, fmt.Sprintf("no network namespace %q", text), next)
	}
	return 0, "", hint.New(hint.Usage, fmt.Sprintf("%q is not a network namespace: %v", text, err), next)
}

// FindInUse is Find, but it looks for the path of inode:N as well. If neither a process nor a name keeps that
// namespace, it returns an error, unless it may not look at all of them: then the path is empty.
func (f *Finder) FindInUse(text string) (inode uint32, path string, err error) {
	inode, path, err = f.Find(text)
	if err != nil || path != "" {
		return inode, path, err
	}
	paths, denied := f.All()
	if path = paths[inode]; path == "" && denied == 0 {
		return 0, "", hint.New(hint.Usage,
			fmt.Sprintf("no process is in network namespace %d, and it has no name", inode), "lsns -t net lists them")
	}
	return inode, path, nil
}

// FindAllInUse is FindInUse of several names. Each namespace is found once.
func (f *Finder) FindAllInUse(names []string) (inodes []uint32, paths []string, err error) {
	for _, text := range names {
		inode, path, err := f.FindInUse(text)
		if err != nil {
			return nil, nil, err
		}
		if !slices.Contains(inodes, inode) {
			inodes, paths = append(inodes, inode), append(paths, path)
		}
	}
	return inodes, paths, nil
}

// NamesNow returns names by which namespaces of [Finder.FindAllInUse] are found now: their paths or, if these lead to
// others, for example because the id of a process was used again, inode:N.
func (f *Finder) NamesNow(paths []string, inodes []uint32) []string {
	names := slices.Clone(paths)
	for i, inode := range inodes {
		if now, err := f.Inode(names[i]); err != nil || now != inode {
			names[i] = fmt.Sprintf("inode:%d", inode)
		}
	}
	return names
}

// path returns where the file of a namespace should be, and the hint for when it
// is not there.
func (f *Finder) path(text string) (path, next string) {
	if strings.Contains(text, "/") {
		return text, "a path looks like /run/netns/NAME or /proc/PID/ns/net"
	}
	if _, err := strconv.ParseUint(text, 10, 32); err == nil {
		return filepath.Join(f.Proc, text, "ns/net"), "a number is a process id; for an inode number write inode:" + text
	}
	if text == "" || text == "." || text == ".." {
		text = "-" // a name that no file has
	}
	return filepath.Join(f.Named, text), "ip netns lists the names; a path, a process id or inode:N also works"
}

// All returns a path to each network namespace that has a name or a process in
// it, by inode number, and how many files could not be opened for lack of
// privileges. A namespace that is only held open, for example by a socket, has no
// path.
func (f *Finder) All() (paths map[uint32]string, denied int) {
	paths = map[uint32]string{}
	for _, file := range f.files() {
		inode, err := f.Inode(file)
		if _, known := paths[inode]; err == nil && !known {
			paths[inode] = file
		}
		if errors.Is(err, fs.ErrPermission) {
			denied++
		}
	}
	return paths, denied
}

// files returns the files that may be network namespaces.
func (f *Finder) files() (files []string) {
	processes, _ := os.ReadDir(f.Proc) // the names remain if it cannot be read
	for _, p := range processes {
		if _, err := strconv.ParseUint(p.Name(), 10, 32); err == nil {
			files = append(files, filepath.Join(f.Proc, p.Name(), "ns/net"))
		}
	}
	names, _ := os.ReadDir(f.Named) // ip-netns makes it with the first name
	for _, n := range names {
		files = append(files, filepath.Join(f.Named, n.Name()))
	}
	return files
}

// Inode returns the inode number of the network namespace behind path. Any other
// file is an error.
func Inode(path string) (uint32, error) {
	fd, inode, err := open(path)
	if err != nil {
		return 0, err
	}
	return inode, unix.Close(fd)
}

// ofKernel matches the paths that [Finder] makes itself. They show nothing of the
// files of other users.
var ofKernel = regexp.MustCompile("^(/proc/(self|[0-9]+)/ns/net|/run/netns/[^/]+)$")

// open opens a network namespace and returns its inode number: with the rights of
// the user, unless the path is one of the kernel's.
func open(path string) (fd int, inode uint32, err error) {
	as := rights.AsUser
	if ofKernel.MatchString(path) {
		as = func(do func() error) error { return do() }
	}
	// O_NONBLOCK, because path may be a FIFO.
	err = as(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		return err
	})
	if err != nil {
		return -1, 0, err
	}
	if inode, err = inodeOf(fd); err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	return fd, inode, nil
}

// inodeOf returns the inode number of an open network namespace.
func inodeOf(fd int) (uint32, error) {
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

// Selected returns the paths of network namespaces by inode number: of all, with how many of them could not be opened,
// of those that names name or, without names, of this process's own, whose path is "".
func (f *Finder) Selected(names []string, all bool) (paths map[uint32]string, inaccessible int, err error) {
	own, err := f.Own()
	switch {
	case err != nil:
		return nil, 0, err
	case all:
		paths, inaccessible = f.All()
		paths[own] = ""
		return paths, inaccessible, nil
	case len(names) == 0:
		return map[uint32]string{own: ""}, 0, nil
	}
	paths = map[uint32]string{}
	for _, text := range names {
		inode, path, err := f.FindInUse(text)
		switch {
		case err != nil:
			return nil, 0, err
		case inode == own:
			path = ""
		case path == "":
			return nil, 0, hint.New(hint.Usage,
				fmt.Sprintf("no process is in network namespace %d", inode), "lsns -t net lists them")
		}
		paths[inode] = path
	}
	return paths, 0, nil
}
