package enrich

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
)

// CgroupMount is where a hierarchy of cgroups (v2), or a part of it, is mounted.
type CgroupMount struct {
	Dir  string // mount point
	Root string // path of the cgroup that is mounted there, as in /proc/PID/cgroup
}

// mountHint is what makes filters by cgroup possible.
const mountHint = "mount cgroup v2: mount -t cgroup2 none /sys/fs/cgroup; in a container: --cgroupns=host"

// maxMounts bounds what is read of the list of mounts, in bytes.
const maxMounts = 16 << 20

// FindCgroups returns the mount that a /proc lists, or a [hint.Unsupported] error
// if there is none.
func FindCgroups(proc string) (CgroupMount, error) {
	text, err := readUpTo(filepath.Join(proc, "self/mountinfo"), maxMounts)
	if err != nil {
		return CgroupMount{}, err
	}
	for line := range strings.Lines(string(text)) {
		// proc(5): ID PARENT DEVICE ROOT DIR OPTIONS [TAG...] - TYPE ...
		mount, kind, ok := strings.Cut(line, " - ")
		if words := strings.Fields(mount); ok && strings.HasPrefix(kind, "cgroup2 ") && len(words) > 4 {
			return CgroupMount{Dir: words[4], Root: words[3]}, nil
		}
	}
	return CgroupMount{}, hint.New(hint.Unsupported, "cgroup v2 is not mounted", mountHint)
}

// Folder returns the directory of the cgroup with this path.
func (m CgroupMount) Folder(path string) (string, error) {
	below, ok := strings.CutPrefix(path+"/", strings.TrimSuffix(m.Root, "/")+"/")
	if !ok {
		return "", fmt.Errorf("%s is not below %s, which is mounted at %s", path, m.Root, m.Dir)
	}
	return filepath.Join(m.Dir, below), nil
}

// Path returns the path of the cgroup with this directory, or "" if it is outside of the mount or was removed.
func (m CgroupMount) Path(folder string) string {
	below, ok := strings.CutPrefix(folder, m.Dir)
	if !ok || below != "" && below[0] != '/' || strings.HasSuffix(folder, " (deleted)") {
		return ""
	}
	path := strings.TrimSuffix(m.Root, "/") + below
	if path == "" {
		path = "/"
	}
	return strings.ToValidUTF8(path, "\uFFFD") // a name may be any bytes, a record is text
}

// ID returns the id of the cgroup with this directory: on cgroup v2, and if inode numbers have 64 bits, its inode
// number.
func (m CgroupMount) ID(folder string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(folder, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// Lookup returns the id of the cgroup that text names: by its path as in
// /proc/PID/cgroup, with or without the leading slash, or by its directory.
func (m CgroupMount) Lookup(text string) (uint64, error) {
	path := m.Path(strings.TrimRight(text, "/"))
	if path == "" {
		path = events.CgroupPath(text)
	}
	folder, err := m.Folder(path)
	if err != nil {
		return 0, hint.New(hint.Unsupported, err.Error(), mountHint)
	}
	id, err := m.ID(folder)
	if err != nil || m.Path(folder) == "" { // for example with ..
		return 0, hint.New(hint.Usage, fmt.Sprintf("no cgroup %q", text),
			"systemd-cgls lists cgroups; the line 0:: of /proc/PID/cgroup has that of a process")
	}
	return id, nil
}

// Each calls visit for all cgroups, parents before children, and for the children of one only if visit returns true. It
// skips cgroups that are removed meanwhile.
func (m CgroupMount) Each(visit func(path string, id uint64) bool) {
	_ = filepath.WalkDir(m.Dir, func(folder string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil
		}
		id, err := m.ID(folder)
		if err != nil || !visit(m.Path(folder), id) {
			return fs.SkipDir
		}
		return nil
	})
}

// maxCgroups bounds the number of paths that are kept: about 3 MB.
const maxCgroups = 16384

// Cgroups returns the paths of cgroups by their ids. Ids are not reused and cgroups are not renamed, so a path that was
// found remains valid. It is not safe for concurrent use.
type Cgroups struct {
	mount CgroupMount
	dir   *os.File // mount point
	paths map[uint64]string
	open  func(id uint64) string
	last  struct {
		id   uint64
		path string
	}
}

// NewCgroups reads the paths of all present cgroups, so that they are known after their removal. That needs no
// privileges. Later cgroups need CAP_DAC_READ_SEARCH.
func NewCgroups(proc string) (*Cgroups, error) {
	mount, err := FindCgroups(proc)
	if err != nil {
		return nil, err
	}
	c := &Cgroups{mount: mount, paths: map[uint64]string{}}
	if c.dir, err = os.Open(mount.Dir); err != nil {
		return nil, err
	}
	c.open = c.byHandle
	mount.Each(func(path string, id uint64) bool {
		c.paths[id] = path
		return len(c.paths) < maxCgroups
	})
	return c, nil
}

// Resolve sets the paths of the cgroups of an event.
func (c *Cgroups) Resolve(ev *events.Event) {
	ev.Cgroup = c.path(ev.CgroupID)
	if ev.SocketCgroupID != ev.CgroupID {
		ev.SocketCgroup = c.path(ev.SocketCgroupID)
	}
}

func (c *Cgroups) path(id uint64) string {
	if id == 0 {
		return ""
	}
	if c.last.id == id {
		return c.last.path
	}
	path, known := c.paths[id]
	if !known {
		if len(c.paths) >= maxCgroups {
			clear(c.paths)
		}
		path = c.open(id)
		c.paths[id] = path
	}
	c.last.id, c.last.path = id, path
	return path
}

// fileIDKernfs is FILEID_KERNFS of include/linux/exportfs.h (5.5): a file handle that consists of the id.
const fileIDKernfs = 0xfe

// byHandle asks the kernel for the path of a cgroup. It returns "" if the cgroup no longer exists.
func (c *Cgroups) byHandle(id uint64) string {
	handle := unix.NewFileHandle(fileIDKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(int(c.dir.Fd()), handle, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	folder, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return ""
	}
	return c.mount.Path(folder)
}
