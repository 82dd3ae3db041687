package hint

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Creating adds a hint to the error of opening a file to write to, if its directory is the reason. The kind stays
// [Failed].
func Creating(err error) error {
	var failed *fs.PathError
	if !errors.As(err, &failed) {
		return err
	}
	dir := filepath.Dir(failed.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		return &Error{Err: err, Hint: "create the directory: mkdir -p " + dir}
	case errors.Is(err, syscall.ENOTDIR):
		return &Error{Err: err, Hint: dir + " is not a directory: name a file in another one"}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return &Error{Err: err, Hint: "name a file in a directory that you may write to"}
	}
	return err
}
