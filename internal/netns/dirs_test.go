package netns

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A namespace is found by a process in it, as long as the process is there, and looked for again after a while.
func TestDirs(t *testing.T) {
	f := fixture(t)
	write := func(path, text string) {
		path = filepath.Join(f.Proc, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("self/ns/net", "99")
	now := time.Unix(1, 0)
	d := NewDirs(f)
	d.now = func() time.Time { return now }
	for inode, want := range map[uint32]string{99: "thread-self/net", 100: "4211/net", 200: "", 7: ""} {
		if want != "" {
			want = filepath.Join(f.Proc, want)
		}
		if got := d.Of(inode); got != want {
			t.Errorf("%d: got %q, want %q", inode, got, want)
		}
	}
	if got := d.All(); len(got) != 1 || got[100] != filepath.Join(f.Proc, "4211/net") {
		t.Errorf("all: %v", got)
	}
	write("4211/ns/net", "101")
	if got := d.All(); len(got) != 0 {
		t.Errorf("the process left the namespace, and all are %v", got)
	}
	if got := d.Of(100); got != "" {
		t.Errorf("the process left the namespace, and its directory is %q", got)
	}
	if got := d.Of(101); got != "" {
		t.Errorf("found too soon: %q", got)
	}
	now = now.Add(10 * time.Second)
	if got := d.Of(101); got != filepath.Join(f.Proc, "4211/net") {
		t.Errorf("not found later: %q", got)
	}
}
