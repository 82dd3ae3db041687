package netns

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

	"github.com/closetrace/closetrace/internal/hint"
)

// fixture returns a finder of files that hold the inode numbers of namespaces.
func fixture(t testing.TB) Finder {
	root := t.TempDir()
	for path, text := range map[string]string{
		"proc/4211/ns/net":    "100",
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
	return Finder{
		Proc: filepath.Join(root, "proc"), Named: filepath.Join(root, "run/netns"),
		Inode: func(path string) (uint32, error) {
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

func TestFindAllInUse(t *testing.T) {
	f := fixture(t)
	inodes, paths, err := f.FindAllInUse([]string{"inode:100", "web", "4211"})
	want := []string{f.Proc + "/4211/ns/net", f.Named + "/web"}
	if err != nil || !slices.Equal(inodes, []uint32{100, 200}) || !slices.Equal(paths, want) {
		t.Fatalf("%v, %q, %v", inodes, paths, err)
	}
	if names := f.NamesNow(paths, inodes); !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	if err := os.WriteFile(paths[0], []byte("300"), 0o644); err != nil { // another process
		t.Fatal(err)
	}
	if names := f.NamesNow(paths, inodes); names[0] != "inode:100" || names[1] != want[1] {
		t.Errorf("%q", names)
	}
	if _, _, err := f.FindAllInUse([]string{"web", "db"}); err == nil {
		t.Error("db was found")
	}
}

func TestFind(t *testing.T) {
	f := fixture(t)
	tests := []struct {
		text string
		want uint32
		err  string
	}{
		{text: "web", want: 200},
		{text: "4211", want: 100}, // the process, not the name
		{text: f.Named + "/4211", want: 300},
		{text: filepath.Dir(f.Named) + "/elsewhere/by-id", want: 400},
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
		got, path, err := f.Find(tt.text)
		if tt.err == "" && (err != nil || got != tt.want) {
			t.Errorf("%q: got %d, %v", tt.text, got, err)
		}
		if (path == "") != (tt.err != "" || strings.HasPrefix(tt.text, "inode:")) {
			t.Errorf("%q: path %q", tt.text, path)
		}
		var usage *hint.Error
		if tt.err != "" && (!errors.As(err, &usage) || usage.Kind != hint.Usage || usage.What != tt.err || usage.Hint == "") {
			t.Errorf("%q: got %d, %#v", tt.text, got, err)
		}
	}
	if _, _, err := f.Find("locked"); !hint.Is(err, hint.Privilege) {
		t.Errorf("without permission: %v", err)
	}
}

func TestInode(t *testing.T) {
	own, err := Inode("/proc/self/ns/net")
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
		if inode, err := Inode(path); err == nil {
			t.Errorf("%s counts as namespace %d", path, inode)
		} else if strings.Contains(err.Error(), "ioctl") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Each namespace of a process and each with a name is found once; one that cannot be
// opened is counted.
func TestAll(t *testing.T) {
	f := fixture(t)
	paths, hidden := f.All()
	want := map[uint32]string{100: f.Proc + "/4211/ns/net", 200: f.Named + "/web", 300: f.Named + "/4211"}
	if !maps.Equal(paths, want) || hidden != 1 {
		t.Errorf("got %v and %d hidden, want %v", paths, hidden, want)
	}
	none := Finder{Proc: f.Proc + "/none", Named: f.Named + "/none", Inode: f.Inode}
	if paths, hidden := none.All(); len(paths)+hidden != 0 {
		t.Errorf("nowhere: %v, %d hidden", paths, hidden)
	}
}

// A name or a number never leads outside of the directories of namespaces.
func FuzzPath(f *testing.F) {
	for _, text := range []string{"web", "4211", "..", "", "/run/netns/web", "web\x00", "-1"} {
		f.Add(text)
	}
	finder := System()
	f.Fuzz(func(t *testing.T, text string) {
		path, hint := finder.path(text)
		dir := filepath.Dir(path)
		process := dir == filepath.Join("/proc", text, "ns") && filepath.Base(path) == "net"
		if !strings.Contains(text, "/") && dir != finder.Named && !process {
			t.Errorf("%q leads to %q", text, path)
		}
		if hint == "" {
			t.Error("no hint")
		}
	})
}
