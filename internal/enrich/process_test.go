package enrich

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/sockets"
)

// A server with three descriptors of four, its parent, and the parent of that, whose id was used again since.
func TestProcesses(t *testing.T) {
	root := t.TempDir()
	cgroups := filepath.Join(root, "cgroups")
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stat := func(comm, state, parent, began string) string {
		return "1 (" + comm + ") " + state + " " + parent + " 0 0 0 0 0 0 0 0 0 0 0 0 0 20 0 1 0 " + began + " 0\n"
	}
	limits := "Limit                     Soft Limit           Hard Limit           Units     \n" +
		"Max open files            4                    1048576              files     \n"
	write("self/mountinfo", "30 1 0:26 / "+cgroups+" rw - cgroup2 cgroup2 rw\n")
	write("7/stat", stat("a) S 9 (b", "T", "5", "300"))
	write("7/limits", limits)
	write("7/cgroup", "1:name=systemd:/\n0::/web\n")
	for _, fd := range []string{"0", "1", "3", "9"} { // 9 is above the limit
		write("7/fd/"+fd, "")
	}
	write("5/stat", stat("parent", "S", "4", "300"))
	write("5/limits", limits)
	for _, fd := range []string{"0", "1", "2", "3", "12"} {
		write("5/fd/"+fd, "")
	}
	write("4/stat", stat("another", "D", "1", "301"))
	write("cgroups/web/cgroup.events", "populated 1\nfrozen 0\n")

	found := Processes(root, map[uint32]bool{7: true, 5: true, 4: true, 3: true})
	if len(found) != 3 {
		t.Fatalf("got %+v", found)
	}
	if p := found[7]; p.State != sockets.Stopped || p.DescriptorLimit != 4 || p.OutOfDescriptors() ||
		!slices.Equal(p.Ancestors, []sockets.Ancestor{{PID: 5, Comm: "parent"}}) {
		t.Errorf("the server is %+v", p)
	}
	if p := found[5]; p.State != "" || !p.OutOfDescriptors() || p.Descriptors != 4 || p.Ancestors != nil {
		t.Errorf("its parent is %+v", p)
	}
	if p := found[4]; p.State != sockets.Uninterruptible || p.DescriptorLimit != 0 || p.OutOfDescriptors() {
		t.Errorf("the other one is %+v", p)
	}
	write("cgroups/web/cgroup.events", "populated 1\nfrozen 1\n")
	if p := Processes(root, map[uint32]bool{7: true})[7]; p.State != sockets.Frozen {
		t.Errorf("in a frozen cgroup it is %+v", p)
	}
	write("7/cgroup", "0::/../web\n")
	write("web/cgroup.events", "frozen 1\n") // what the path leads to from the mount point
	write("7/stat", stat("a", "t", "5", "300"))
	if p := Processes(root, map[uint32]bool{7: true})[7]; p.State != sockets.Traced {
		t.Errorf("outside of the namespace of cgroups, and traced, it is %+v", p)
	}
}

func TestParseStatus(t *testing.T) {
	for _, text := range []string{"", "1", "1 (", "1 )(", "1 (a)", "1 (a) S", "1 (a) S x", "1 (a) S -1"} {
		if s := parseStatus(text); s != nil {
			t.Errorf("%q: %+v", text, s)
		}
	}
}

func TestKeptByExec(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"fdinfo/5":        "pos:\t0\nflags:\t04002\nmnt_id:\t10\n",
		"fdinfo/6":        "pos:\t0\nflags:\t02004002\nmnt_id:\t10\n",
		"fdinfo/7":        "pos:\t0\n",
		"task/8/fdinfo/6": "flags:\t02\n",
	} {
		name = filepath.Join(root, "7", name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for fd, want := range map[int]bool{5: true, 6: false, 7: false, 8: false} {
		if got := KeptByExec(root, 7, 0, fd); got != want {
			t.Errorf("%d: %v", fd, got)
		}
	}
	if !KeptByExec(root, 7, 8, 6) {
		t.Error("the table of the thread was not looked at")
	}
}

// What is not a regular file is not read, and only the first 64 KB of one that is.
func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	fifo, link, long := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "long")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(long, make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(long, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, link, dir, "/dev/zero"} {
		if _, err := readFile(path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
	if text, err := readFile(long); err != nil || len(text) != 65536 {
		t.Errorf("read %d bytes, %v", len(text), err)
	}
}
