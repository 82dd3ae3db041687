package enrich

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
)

// CgroupMount is where the cgroups (v2) of this machine, or a part of them, are.
type CgroupMount struct {
	Dir  string // folder
	Root string // path of the cgroup that is mounted there, as in /proc/PID/cgroup
}

// FindCgroups asks a /proc.
func FindCgroups(proc string) (CgroupMount, error) {
	text, err := os.ReadFile(filepath.Join(proc, "self/mountinfo"))
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
	return CgroupMount{}, errors.New("cgroup v2 is not mounted")
}

// Folder is that of the cgroup with this path.
func (m CgroupMount) Folder(path string) (string, error) {
	below, ok := strings.CutPrefix(path+"/", strings.TrimSuffix(m.Root, "/")+"/")
	if !ok {
		return "", fmt.Errorf("%s is not below %s, which is mounted at %s", path, m.Root, m.Dir)
	}
	return filepath.Join(m.Dir, below), nil
}

// Path is that of the cgroup in this folder; "" if it is none that can be seen
// here.
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

// ID is that of the cgroup in this folder: on cgroup v2, and where an inode number
// has 64 bits, that number.
func (m CgroupMount) ID(folder string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(folder, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// Each shows all cgroups, from above to below, and what is below one only if down
// says so. What goes away meanwhile is left out.
func (m CgroupMount) Each(down func(path string, id uint64) bool) {
	_ = filepath.WalkDir(m.Dir, func(folder string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil
		}
		id, err := m.ID(folder)
		if err != nil || !down(m.Path(folder), id) {
			return fs.SkipDir
		}
		return nil
	})
}

// maxCgroups bounds what is remembered: about 3 MB.
const maxCgroups = 16384

// Cgroups finds the paths of cgroups by their ids. An id is never used again, and
// a cgroup is never renamed, so what was found once stays true. Not for concurrent
// use.
type Cgroups struct {
	mount CgroupMount
	at    *os.File // the folder
	paths map[uint64]string
	open  func(id uint64) string
	last  struct {
		id   uint64
		path string
	}
}

// NewCgroups knows those that there are now, so that they can be named also after
// their end. It takes no privileges; later ones take CAP_DAC_READ_SEARCH.
func NewCgroups(proc string) (*Cgroups, error) {
	mount, err := FindCgroups(proc)
	if err != nil {
		return nil, err
	}
	c := &Cgroups{mount: mount, paths: map[uint64]string{}}
	if c.at, err = os.Open(mount.Dir); err != nil {
		return nil, err
	}
	c.open = c.byHandle
	mount.Each(func(path string, id uint64) bool {
		c.paths[id] = path
		return len(c.paths) < maxCgroups
	})
	return c, nil
}

// Fill names the cgroups of an event.
func (c *Cgroups) Fill(ev *events.Event) {
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

// fileIDKernfs is FILEID_KERNFS of include/linux/exportfs.h (5.5): a handle that is
// the id alone.
const fileIDKernfs = 0xfe

// byHandle asks the kernel. It knows those that there are.
func (c *Cgroups) byHandle(id uint64) string {
	handle := unix.NewFileHandle(fileIDKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(int(c.at.Fd()), handle, unix.O_PATH|unix.O_CLOEXEC)
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
