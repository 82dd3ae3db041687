package live

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReleaseProgram gives back the pages of a file that are as in the file, and keeps those that were written to, even
// if they can only be read now.
func TestReleaseProgram(t *testing.T) {
	const size = 1 << 20
	content := bytes.Repeat([]byte("closetrace"), size/10+1)[:size]
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	code := mapFile(t, path, unix.PROT_READ)
	data := mapFile(t, path, unix.PROT_READ|unix.PROT_WRITE)
	relocated := mapFile(t, path, unix.PROT_READ|unix.PROT_WRITE)
	data[size/2], relocated[size/2] = 'X', 'X'
	if err := unix.Mprotect(relocated, unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	for _, mapped := range [][]byte{code, data, relocated} {
		bytes.Count(mapped, []byte("x")) // reads all pages
	}
	if got := residentOf(t, path); got != 3*size>>10 {
		t.Fatalf("%d kB are in memory before, want all of three mappings", got)
	}
	if err := release(path); err != nil {
		t.Fatal(err)
	}
	if got := residentOf(t, path); got != 2*size>>10 {
		t.Errorf("%d kB are in memory after, want those of the two mappings that were written to", got)
	}
	if !bytes.Equal(code, content) || data[size/2] != 'X' || relocated[size/2] != 'X' {
		t.Error("the content of a mapping has changed")
	}
}

// TestReleaseOwnProgram goes on after the release of its own pages, with what the linker relocated.
func TestReleaseOwnProgram(t *testing.T) {
	for range 10 {
		if err := releaseProgram(); err != nil {
			t.Fatal(err)
		}
	}
}

func mapFile(t *testing.T, path string, access int) []byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	mapped, err := unix.Mmap(int(file.Fd()), 0, 1<<20, access, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mapped) })
	return mapped
}

// residentOf returns how much of the mappings of a file is in memory, in kB.
func residentOf(t *testing.T, path string) (resident int) {
	t.Helper()
	mappings, err := mappingsOf(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mappings {
		resident += m.resident
	}
	return resident
}
