package outfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/closetrace/closetrace/internal/hint"
)

// A new file is removed if the annotation failed. One that was there stays as it is until it is written to.
func TestFile(t *testing.T) {
	damaged := hint.New(hint.Incomplete, "cut", "")
	for _, tt := range []struct {
		name   string
		old    string // empty: none
		begins bool
		err    error
		want   string // empty: no file
	}{
		{"new", "", true, nil, "new"},
		{"damaged", "", true, damaged, "new"},
		{"failed before", "", false, io.ErrUnexpectedEOF, ""},
		{"failed while writing", "", true, io.ErrShortWrite, ""},
		{"replaced", "the old text", true, nil, "new"},
		{"new, and not begun", "", false, nil, ""},
		{"not replaced", "the old text", false, io.ErrUnexpectedEOF, "the old text"},
	} {
		path := filepath.Join(t.TempDir(), "out")
		if tt.old != "" {
			if err := os.WriteFile(path, []byte(tt.old), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		o, err := Create(path, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.begins {
			w, err := o.Begin()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, "new"); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.Close(tt.err); !errors.Is(err, tt.err) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got, _ := os.ReadFile(path); string(got) != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// What is read is not written to, by whatever name. A device may be both.
func TestInputs(t *testing.T) {
	dir := t.TempDir()
	path, link, hard := filepath.Join(dir, "in"), filepath.Join(dir, "link"), filepath.Join(dir, "hard")
	for _, err := range []error{os.WriteFile(path, []byte("read"), 0o600), os.Symlink(path, link), os.Link(path, hard)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	in, device := opened(t, path), opened(t, os.DevNull)
	for _, name := range []string{path, link, hard} {
		_, err := Create(name, true, []*os.File{device, in})
		if want := name + " is also read"; err == nil || err.Error() != want || !hint.Is(err, hint.Usage) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	out, err := Create(os.DevNull, true, []*os.File{device})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(out.Apart(os.DevNull), out.Close(nil)); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); string(text) != "read" {
		t.Errorf("%q, %v", text, err)
	}
}

func opened(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A symbolic link is not followed, whether it leads to a file or to nothing. Names of descriptors are.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	path, none := filepath.Join(dir, "other"), filepath.Join(dir, "none")
	if err := os.WriteFile(path, []byte("of another user"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"file": path, "nothing": none, "fifo": os.DevNull, "loop": "loop"} {
		link := filepath.Join(dir, name)
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		for _, force := range []bool{false, true} {
			_, err := Create(link, force, nil)
			want := link + " is a symbolic link, which is not followed to write"
			if err == nil || err.Error() != want || !hint.Is(err, hint.Usage) {
				t.Errorf("link to %s: %v, want %s", to, err, want)
			}
		}
		// Nor is a link that was made after the check.
		if f, err := Open(link, os.O_WRONLY|os.O_TRUNC|os.O_CREATE, 0o600); err == nil {
			t.Errorf("link to %s: opened %s", to, f.Name())
		}
	}
	if text, err := os.ReadFile(path); string(text) != "of another user" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := os.Lstat(none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	for _, name := range []string{"/dev/fd/", "/proc/self/fd/"} {
		f, err := Create(name+strconv.Itoa(int(out.Fd())), false, nil)
		if err != nil {
			t.Errorf("a descriptor: %v", err)
			continue
		}
		if err := f.Close(nil); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"/dev/shm/1", "/dev/fd/../shm/1", dir + "/../../dev/fd/1", "dev/fd/1"} {
		if descriptor.MatchString(name) {
			t.Errorf("%s counts as a descriptor", name)
		}
	}
}
