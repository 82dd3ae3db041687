package pipeline

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/hint"
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
	f, err := OutputTo{File: file}.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
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
	g, err := OutputTo{FD: again}.Open()
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
		if f, err := o.Open(); err == nil || !hint.Is(err, hint.Usage) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
}
