package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/kernel"
)

// fixture is a finder on made-up roots, where a namespace's file holds its
// inode number.
func fixture(t testing.TB) finder {
	root := t.TempDir()
	for path, text := range map[string]string{
		"proc/4211/status":    "Name:\tnginx\nTgid:\t4211\nPid:\t4211\n",
		"proc/4211/ns/net":    "100",
		"proc/4212/status":    "Name:\tnginx\nTgid:\t4211\nPid:\t4212\n",
		"run/netns/web":       "200",
		"run/netns/4211":      "300",
		"run/netns/locked":    "locked",
		"run/netns/leftover":  "no number",
		"run/elsewhere/by-id": "400",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return finder{
		proc: filepath.Join(root, "proc"), named: filepath.Join(root, "run/netns"),
		inode: func(path string) (uint32, error) {
			text, err := os.ReadFile(path)
			if err != nil {
				return 0, err
			}
			if string(text) == "locked" {
				return 0, fs.ErrPermission
			}
			var n uint32
			if _, err := fmt.Sscan(string(text), &n); err != nil {
				return 0, errors.New("it is another kind of file")
			}
			return n, nil
		},
	}
}

func TestNetns(t *testing.T) {
	f := fixture(t)
	tests := []struct {
		text string
		want uint32
		err  string
	}{
		{text: "web", want: 200},
		{text: "4211", want: 100}, // the process, not the name
		{text: f.named + "/4211", want: 300},
		{text: filepath.Dir(f.named) + "/elsewhere/by-id", want: 400},
		{text: "inode:4026531840", want: 4026531840},
		{text: "inode:0", err: `"0" is not an inode number`},
		{text: "inode:4294967296", err: `"4294967296" is not an inode number`},
		{text: "inode:", err: `"" is not an inode number`},
		{text: "db", err: `no network namespace "db"`},
		{text: "5000", err: `no network namespace "5000"`},
		{text: "/no/such", err: `no network namespace "/no/such"`},
		{text: "..", err: `no network namespace ".."`},
		{text: "leftover", err: `"leftover" is not a network namespace: it is another kind of file`},
	}
	for _, tt := range tests {
		got, err := f.netns(tt.text)
		if tt.err == "" && (err != nil || got != tt.want) {
			t.Errorf("%q: got %d, %v", tt.text, got, err)
		}
		var usage *usageError
		if tt.err != "" && (!errors.As(err, &usage) || usage.what != tt.err || usage.hint == "") {
			t.Errorf("%q: got %d, %#v", tt.text, got, err)
		}
	}
	if _, err := f.netns("locked"); !errors.Is(err, kernel.ErrPrivilege) {
		t.Errorf("without permission: %v", err)
	}
}

func TestProcess(t *testing.T) {
	f := fixture(t)
	if err := f.process(4211); err != nil {
		t.Errorf("a process: %v", err)
	}
	for pid, want := range map[uint32]string{
		4212: "4212 is a thread of process 4211", 1: "no process has the id 1",
	} {
		if err := f.process(pid); err == nil || err.Error() != want {
			t.Errorf("%d: %v", pid, err)
		}
	}
}

func TestNetnsInode(t *testing.T) {
	own, err := netnsInode("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	link, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("net:[%d]", own); link != want {
		t.Errorf("got %d, the kernel says %s", own, link)
	}
	for _, path := range []string{"/proc/self/ns/mnt", "/proc/self/status", "/dev/null", "/", "/no/such"} {
		if inode, err := netnsInode(path); err == nil {
			t.Errorf("%s is said to be namespace %d", path, inode)
		} else if strings.Contains(err.Error(), "ioctl") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// What processes are in, and what has a name, each once; what is locked is counted.
func TestEveryNetns(t *testing.T) {
	f := fixture(t)
	paths, hidden := f.everyNetns()
	want := map[uint32]string{100: f.proc + "/4211/ns/net", 200: f.named + "/web", 300: f.named + "/4211"}
	if !maps.Equal(paths, want) || hidden != 1 {
		t.Errorf("got %v and %d hidden, want %v", paths, hidden, want)
	}
	none := finder{proc: f.proc + "/none", named: f.named + "/none", inode: f.inode}
	if paths, hidden := none.everyNetns(); len(paths)+hidden != 0 {
		t.Errorf("nowhere: %v, %d hidden", paths, hidden)
	}
}

// A cgroup is known by its path or its folder, a container by how its id begins.
func TestCgroupsAndContainers(t *testing.T) {
	const one, two = "0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d", "0f4b1cffffff5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	root := t.TempDir()
	var mounted error
	cgroups := filepath.Join(root, "cgroups")
	f := finder{cgroups: func() (enrich.CgroupMount, error) { return enrich.CgroupMount{Dir: cgroups, Root: "/"}, mounted }}
	ids := map[string]uint64{}
	for _, path := range []string{
		"/", "/system.slice/nginx.service", "/docker/" + one, "/docker/" + one + "/docker/" + two, "/docker/" + one + "/init",
		"/machine.slice/libpod-" + one + ".scope", "/system.slice/docker-" + two + ".scope",
	} {
		folder := filepath.Join(cgroups, path)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if ids[path], err = (enrich.CgroupMount{}).ID(folder); err != nil {
			t.Fatal(err)
		}
	}
	nginx := ids["/system.slice/nginx.service"]
	for text, want := range map[string]uint64{
		"/system.slice/nginx.service": nginx, "system.slice/nginx.service/": nginx, cgroups + "/system.slice/nginx.service": nginx,
		"/": ids["/"], cgroups: ids["/"], "/nginx.service": 0, "nginx": 0, "..": 0,
	} {
		got, err := f.cgroup(text)
		if got != want || (want == 0) != errors.As(err, new(*usageError)) {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for prefix, want := range map[string][]uint64{
		one[:7]: {ids["/docker/"+one], ids["/machine.slice/libpod-"+one+".scope"]}, // the nested one is below
		two:     {ids["/docker/"+one+"/docker/"+two], ids["/system.slice/docker-"+two+".scope"]},
		one[:6]: nil, "1": nil, one + "0": nil,
	} {
		got, err := f.container(prefix)
		if !slices.Equal(got, want) || (want == nil) != errors.As(err, new(*usageError)) {
			t.Errorf("%q: %d, %v, want %d", prefix, got, err, want)
		}
	}
	mounted = errors.New("cgroup v2 is not mounted")
	if _, err := f.cgroup("/"); !errors.Is(err, kernel.ErrUnsupported) {
		t.Errorf("no cgroups: %v", err)
	}
	if _, err := f.container(one); !errors.Is(err, kernel.ErrUnsupported) {
		t.Errorf("no cgroups: %v", err)
	}
}
