package enrich

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/closetrace/closetrace/internal/events"
)

// What a process controls of its files in /proc (its name, its credentials, the mounts of its namespace) is read
// without a crash, and never gives a time before the boot, a negative age or a cgroup outside of the mount.
func FuzzProc(f *testing.F) {
	f.Add("7 (a) b) S 3 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 42 0 0", "Name:\ta\nUid:\t7\t7\t7\t7\n",
		"30 1 0:27 / /sys/fs/cgroup rw - cgroup2 none rw\n", "/system.slice/a.service")
	f.Add("7 (", "Uid:\n", "1 1 0:1 /x /y - cgroup2 \n", "../..")
	f.Add("7 (a) S 3 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 9223372036854775807 0 0", "Uid:\t-1\n",
		" - cgroup2 ", "/")
	root := f.TempDir()
	process := filepath.Join(root, "7")
	for _, dir := range []string{process, filepath.Join(root, "self")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, stat, status, mounts, text string) {
		for file, content := range map[string]string{
			"7/comm": text + "\n", "7/stat": stat, "7/status": status, "self/mountinfo": mounts,
		} {
			if err := os.WriteFile(filepath.Join(root, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if task := readTask(root, 7, 1000, time.Hour); task != nil && task.Comm != text {
			t.Errorf("comm %q, want %q", task.Comm, text)
		}
		if start := began(stat); start < 0 {
			t.Errorf("it began %v after boot", start)
		}
		if _, age := descent(root, 7, time.Hour); age < 0 || age > time.Hour {
			t.Errorf("age %v", age)
		}
		if inode, ok := socketInode(text); ok && inode == 0 {
			t.Errorf("%q is socket 0", text)
		}
		m, err := FindCgroups(root)
		if err != nil {
			return
		}
		if path := m.Path(filepath.Join(m.Dir, text)); !utf8.ValidString(path) {
			t.Errorf("path %q is not text", path)
		}
		if folder, err := m.Folder(events.CgroupPath(text)); err == nil && m.Path(folder) != "" {
			below := strings.TrimSuffix(m.Dir, "/")
			if folder != below && !strings.HasPrefix(folder, below) {
				t.Errorf("%q leads to %q, outside of %q", text, folder, m.Dir)
			}
		}
	})
}
