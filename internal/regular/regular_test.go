package regular

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	fifo, plain := filepath.Join(dir, "fifo"), filepath.Join(dir, "plain")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.WriteFile(plain, []byte("text"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		fifo: "not a regular file", dir: "not a regular file", "/dev/null": "not a regular file",
		plain + ".not": "no such file or directory",
	} {
		if file, err := Open(path); err == nil || !strings.Contains(err.Error(), want) || file != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	file, err := Open(plain)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if text, err := io.ReadAll(file); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
}

// A regular file of the kernel that has no more to read for now, and no end either, is an error.
func TestEndlessFile(t *testing.T) {
	const path = "/proc/kmsg"
	file, err := Open(path)
	switch {
	case errors.Is(err, os.ErrPermission), errors.Is(err, os.ErrNotExist):
		t.Skipf("only a privileged user may read the kernel's log, if it is mounted: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	defer file.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, file)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Errorf("%s has an end", path)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("a read of %s does not end", path)
	}
}
