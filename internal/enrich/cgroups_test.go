package enrich

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
)

// hierarchy makes folders that stand for cgroups, and a /proc that tells where
// they are.
func hierarchy(t *testing.T, root string, cgroups ...string) (proc string, m CgroupMount) {
	t.Helper()
	tr := newTree(t)
	m = CgroupMount{Dir: filepath.Join(tr.root, "cgroups"), Root: root}
	for _, path := range append(cgroups, "/") {
		folder, err := m.Folder(path)
		if err == nil {
			err = os.MkdirAll(folder, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tr.write(map[string]string{
		"self/mountinfo":       fmt.Sprintf("30 1 0:27 %s %s rw,nosuid shared:9 - cgroup2 cgroup2 rw\n", root, m.Dir),
		"cgroups/cgroup.procs": "",
	})
	return tr.root, m
}

func TestFindCgroups(t *testing.T) {
	for name, tt := range map[string]struct {
		mounts string
		want   CgroupMount
	}{
		"unified":          {"30 1 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n", CgroupMount{"/sys/fs/cgroup", "/"}},
		"beside version 1": {"40 1 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw\n41 1 0:31 / /sys/fs/cgroup/unified rw - cgroup2 c rw\n", CgroupMount{"/sys/fs/cgroup/unified", "/"}},
		"a part":           {"30 1 0:27 /docker/ab /sys/fs/cgroup rw - cgroup2 c rw\n", CgroupMount{"/sys/fs/cgroup", "/docker/ab"}},
		"only version 1":   {"40 1 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", CgroupMount{}},
		"garbage":          {"30 - cgroup2 \n", CgroupMount{}},
	} {
		tr := newTree(t)
		tr.write(map[string]string{"self/mountinfo": tt.mounts})
		got, err := FindCgroups(tr.root)
		if got != tt.want || (err == nil) != (tt.want != CgroupMount{}) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if _, err := FindCgroups(t.TempDir()); err == nil {
		t.Error("found without a /proc")
	}
}

func TestCgroupPaths(t *testing.T) {
	whole, part := CgroupMount{"/sys/fs/cgroup", "/"}, CgroupMount{"/sys/fs/cgroup", "/docker/ab"}
	for _, tt := range []struct {
		m            CgroupMount
		folder, want string
	}{
		{whole, "/sys/fs/cgroup", "/"},
		{whole, "/sys/fs/cgroup/a.slice/b.service", "/a.slice/b.service"},
		{whole, "/sys/fs/cgroups", ""},
		{whole, "/a.slice", ""}, // outside of what is mounted
		{whole, "/sys/fs/cgroup/a (deleted)", ""},
		{whole, "/sys/fs/cgroup/a\xff", "/a\uFFFD"},
		{part, "/sys/fs/cgroup", "/docker/ab"},
		{part, "/sys/fs/cgroup/x", "/docker/ab/x"},
		{CgroupMount{"/sys/fs/cgroup", "/.."}, "/sys/fs/cgroup/x", "/../x"},
	} {
		if got := tt.m.Path(tt.folder); got != tt.want {
			t.Errorf("%+v: %q is %q, want %q", tt.m, tt.folder, got, tt.want)
		}
	}
	if folder, err := part.Folder("/docker/ab/x"); folder != "/sys/fs/cgroup/x" || err != nil {
		t.Errorf("got %q, %v", folder, err)
	}
	if folder, err := part.Folder("/docker/abc"); err == nil {
		t.Errorf("outside of what is mounted: %q", folder)
	}
}

func TestEachCgroup(t *testing.T) {
	_, m := hierarchy(t, "/", "/a/b", "/c/d")
	var all []string
	m.Each(func(path string, id uint64) bool {
		all = append(all, path)
		folder, err := m.Folder(path)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := m.ID(folder); id != want || err != nil {
			t.Errorf("%s has the id %d, want %d, %v", path, id, want, err)
		}
		return path != "/a"
	})
	if want := []string{"/", "/a", "/c", "/c/d"}; !slices.Equal(all, want) {
		t.Errorf("got %v, want %v", all, want)
	}
}

// What there is at the start is named for ever; what comes later is asked for,
// once.
func TestCgroupsAreNamed(t *testing.T) {
	proc, m := hierarchy(t, "/", "/a")
	id, err := m.ID(filepath.Join(m.Dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCgroups(proc)
	if err != nil {
		t.Fatal(err)
	}
	const later, gone = 1 << 60, 1<<60 + 1
	asked := map[uint64]int{}
	c.open = func(id uint64) string {
		asked[id]++
		return map[uint64]string{later: "/later"}[id]
	}
	if err := os.Remove(filepath.Join(m.Dir, "a")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, tt := range []struct{ task, socket, wantTask, wantSocket string }{
			{"/a", "/later", "/a", "/later"}, {"/a", "/a", "/a", ""}, {"", "/a", "", "/a"}, {"/later", "gone", "/later", ""},
		} {
			ids := map[string]uint64{"/a": id, "/later": later, "gone": gone}
			ev := events.Event{CgroupID: ids[tt.task], SocketCgroupID: ids[tt.socket]}
			c.Resolve(&ev)
			if ev.Cgroup != tt.wantTask || ev.SocketCgroup != tt.wantSocket {
				t.Errorf("%+v: got %q and %q", tt, ev.Cgroup, ev.SocketCgroup)
			}
		}
	}
	if len(asked) != 2 || asked[later] != 1 || asked[gone] != 1 {
		t.Errorf("asked for, by id: %v", asked)
	}
	for id := range uint64(40_000) {
		c.path(id)
		if len(c.paths) > 16_384 {
			t.Fatalf("%d paths are kept in memory, want at most 16,384", len(c.paths))
		}
	}
}

// A path in any form or a directory finds a cgroup, and nothing outside of the mount.
func TestLookup(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cgroups")
	if err := os.MkdirAll(filepath.Join(dir, "system.slice/nginx.service"), 0o755); err != nil {
		t.Fatal(err)
	}
	mount := CgroupMount{Dir: dir, Root: "/"}
	root, err := mount.ID(dir)
	if err != nil {
		t.Fatal(err)
	}
	nginx, err := mount.ID(filepath.Join(dir, "system.slice/nginx.service"))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]uint64{
		"/system.slice/nginx.service": nginx, "system.slice/nginx.service/": nginx, dir + "/system.slice/nginx.service": nginx,
		"/": root, dir: root, "/nginx.service": 0, "nginx": 0, "..": 0,
	} {
		got, err := mount.Lookup(text)
		if got != want || (want == 0) != hint.Is(err, hint.Usage) {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	mount.Root = "/docker/ab"
	if _, err := mount.Lookup("/user"); !hint.Is(err, hint.Unsupported) {
		t.Errorf("a cgroup that is not mounted: %v", err)
	}
}
