package enrich

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The own socket, in the /proc of this machine.
func TestOwnSocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File() // a second descriptor of the same socket
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	inode, ok := socketInode(link)
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil || !ok || inode != st.Ino {
		t.Fatalf("%s is %d, the kernel says %d, %v", link, inode, st.Ino, err)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	o := NewOwners("/proc")
	o.timeout = 1 << 62
	task, others := o.Of(inode, 0)
	if task == nil || task.PID != uint32(os.Getpid()) || task.UID != uint32(os.Getuid()) ||
		task.Comm != strings.TrimSpace(string(comm)) || others != 0 {
		t.Errorf("got %+v and %d others", task, others)
	}
}

func BenchmarkScan(b *testing.B) {
	for b.Loop() {
		holdersIn("/proc", 0)
	}
}

// A cgroup that is made and removed, in the hierarchy of this machine.
func TestOwnCgroup(t *testing.T) {
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || !strings.Contains(string(mounts), " cgroup2 ") {
		t.Skipf("cgroup v2 is not mounted: %v", err)
	}
	c, err := NewCgroups("/proc")
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(c.mount.Dir, fmt.Sprintf("closetrace-test-%d", os.Getpid()))
	err = os.Mkdir(folder, 0o755)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		t.Skipf("this user makes no cgroups: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	id, err := c.mount.ID(folder)
	if err == nil {
		_, err = unix.OpenByHandleAt(int(c.dir.Fd()), unix.NewFileHandle(fileIDKernfs, make([]byte, 8)), unix.O_PATH)
	}
	permitted := !errors.Is(err, unix.EPERM)
	path := c.byHandle(id)
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if !permitted {
		t.Skip("needs CAP_DAC_READ_SEARCH")
	}
	if path != c.mount.Path(folder) {
		t.Errorf("%d is %q, want %q", id, path, c.mount.Path(folder))
	}
	if path := c.byHandle(id); path != "" {
		t.Errorf("removed, and still %q", path)
	}
}
