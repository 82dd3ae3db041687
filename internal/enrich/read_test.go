package enrich

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/sockets"
)

// hostile are files that block, lead elsewhere or have no end when they are opened or read without care.
var hostile = map[string]func(path string) error{
	"FIFO":      func(path string) error { return unix.Mkfifo(path, 0o666) },
	"device":    func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) }, // zero
	"link":      func(path string) error { return os.Symlink("/proc/self/stat", path) },
	"link loop": func(path string) error { return os.Symlink(path, path) },
	"directory": func(path string) error { return os.Mkdir(path, 0o777) },
	"large file": func(path string) error {
		err := os.WriteFile(path, nil, 0o666)
		if err == nil {
			err = os.Truncate(path, 1<<40)
		}
		return err
	},
}

// within fails the test if f blocks.
func within(t *testing.T, limit time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatal("blocked")
	}
}

// Nothing that is read of a process blocks, follows a link or reads without a limit.
func TestHostileProc(t *testing.T) {
	for kind, plant := range hostile {
		t.Run(kind, func(t *testing.T) {
			root := t.TempDir()
			process := filepath.Join(root, "7")
			if err := os.MkdirAll(process, 0o777); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"comm", "status", "stat", "maps", "fd", "task", "root", "mountinfo"} {
				err := plant(filepath.Join(process, name))
				if os.IsPermission(err) && kind == "device" {
					t.Skip("needs CAP_MKNOD")
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink("7", filepath.Join(root, "self")); err != nil {
				t.Fatal(err)
			}
			within(t, time.Minute, func() {
				if task := readTask(root, 7, 0, time.Hour); task != nil && kind != "large file" {
					t.Errorf("a task: %+v", task)
				}
				if n := len(holdersIn(root, 1)); n != 0 {
					t.Errorf("%d sockets", n)
				}
				if found, _ := holdersAt(root, sockets.NewInodes([]uint64{1}), time.Hour); found.Of(1) != nil {
					t.Errorf("holders: %+v", found.Of(1))
				}
				if parent, _ := descent(root, 7, time.Hour); parent != 0 {
					t.Errorf("a parent: %d", parent)
				}
				if _, err := FindCgroups(root); err == nil {
					t.Error("a cgroup")
				}
				if at := NewStacks(root, nil).readSpace(7, 1); at != nil {
					t.Errorf("an address space: %+v", at)
				}
				b, err := readFile(filepath.Join(process, "stat"))
				if len(b) > maxFile || err == nil && kind != "large file" {
					t.Errorf("%d bytes, error %v", len(b), err)
				}
			})
		})
	}
}

// What has the path of a mapping now is opened only if it is the regular file that was mapped: below the root of the
// process, without following a link.
func TestOpenMapped(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "dir")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, []byte("text"), 0o666); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	m := &mapping{inode: st.Ino, path: "/dir/program"}
	f, version, err := openMapped(root, m)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if version.inode != st.Ino || version.size != 4 {
		t.Errorf("got %+v", version)
	}
	if err := os.Symlink("dir", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"/link/program", "/../" + strings.TrimPrefix(path, "/"), "/none", ""} {
		if f, _, err := openMapped(root, &mapping{inode: st.Ino, path: other}); err == nil {
			f.Close()
			t.Errorf("opened %q", other)
		}
	}
	for kind, plant := range hostile {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := plant(path); err != nil {
			t.Logf("%s: %v", kind, err)
			continue
		}
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, func() {
			f, _, err := openMapped(root, &mapping{inode: st.Ino, path: "/dir/program"})
			if err == nil {
				f.Close()
			}
			if (err == nil) != (kind == "large file") {
				t.Errorf("%s: %v", kind, err)
			}
		})
	}
}
