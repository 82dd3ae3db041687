package pipeline

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/outfile"
)

func TestOutputTo(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "out"), filepath.Join(dir, "fifo")
	for _, err := range []error{os.WriteFile(file, []byte("old"), 0o644), unix.Mkfifo(fifo, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if (OutputTo{}).Given() || !(OutputTo{File: file}).Given() || !(OutputTo{FD: 3}).Given() {
		t.Error("Given is wrong about a file, a descriptor, or neither")
	}
	f, err := OutputTo{File: file}.Open(Others{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if text, err := os.ReadFile(file); err != nil || string(text) != "old" {
		t.Errorf("before there is something to print, the file has %q, %v", text, err)
	}
	if err := outfile.Empty(f); err != nil {
		t.Error(err)
	}
	if _, err := f.WriteString("new\n"); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "new\n" {
		t.Errorf("the file has %q, %v", text, err)
	}

	again, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	g, err := OutputTo{FD: again}.Open(Others{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if flags, err := unix.FcntlInt(g.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("commands inherit the descriptor: %#x, %v", flags, err)
	}

	readOnly, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	for name, o := range map[string]OutputTo{
		"a FIFO without a reader": {File: fifo}, "not open": {FD: 987}, "only for reading": {FD: int(readOnly.Fd())},
		"two places": {File: file, FD: 3},
	} {
		if f, err := o.Open(Others{}); err == nil || !hint.Is(err, hint.Usage) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
}

// A file that the run reads or records to is not written to, and stays as it is. One that would be both is not
// created.
func TestOutputToOthers(t *testing.T) {
	dir := t.TempDir()
	path, hard, unmade := filepath.Join(dir, "a.rec"), filepath.Join(dir, "hard"), filepath.Join(dir, "unmade")
	for _, err := range []error{os.WriteFile(path, []byte("old"), 0o600), os.Link(path, hard)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for _, tt := range []struct {
		to     string
		others Others
		want   string
	}{
		{path, Others{Inputs: []*os.File{in}}, path + " is also read"},
		{hard, Others{Inputs: []*os.File{in}}, hard + " is also read"},
		{hard, Others{Recording: path}, hard + " is also recorded to"},
		{unmade, Others{Recording: unmade}, unmade + " is also recorded to"},
	} {
		f, err := OutputTo{File: tt.to}.Open(tt.others)
		if err == nil || err.Error() != tt.want || !hint.Is(err, hint.Usage) {
			t.Errorf("%v, %v, want %s", f, err, tt.want)
		}
	}
	if text, err := os.ReadFile(path); string(text) != "old" {
		t.Errorf("the file has %q, %v", text, err)
	}
	if _, err := os.Stat(unmade); !os.IsNotExist(err) {
		t.Errorf("a file is left: %v", err)
	}
}
