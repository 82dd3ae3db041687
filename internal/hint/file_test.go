package hint

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"
)

func TestCreating(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "a", "b")
	failed := func(path string, err error) error { return &fs.PathError{Op: "open", Path: path, Err: err} }
	for _, tc := range []struct {
		err  error
		want string
	}{
		{failed(missing+"/x", syscall.ENOENT), "create the directory: mkdir -p " + missing},
		{failed(dir+"/x", syscall.ENOENT), ""}, // in /proc, or a dangling link
		{failed("/etc/passwd/x", syscall.ENOTDIR), "/etc/passwd is not a directory: name a file in another one"},
		{failed(dir+"/x", syscall.EACCES), "name a file in a directory that you may write to"},
		{failed(dir+"/x", syscall.EROFS), "name a file in a directory that you may write to"},
		{failed(dir+"/x", syscall.ENOSPC), ""},
		{New(Usage, dir+"/x exists", "use another name"), "use another name"},
		{errors.New("broken"), ""},
	} {
		got := Creating(tc.err)
		if Of(got) != tc.want || got.Error() != tc.err.Error() || ExitCode(got) != ExitCode(tc.err) {
			t.Errorf("%v: got %v, exit code %d, hint %q", tc.err, got, ExitCode(got), Of(got))
		}
	}
	if Creating(nil) != nil {
		t.Error("something is made of no error")
	}
}
