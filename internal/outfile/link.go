package outfile

import (
	"cmp"
	"io/fs"
	"os"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/hint"
)

// Open is [os.OpenFile] for files to write to. It follows no symbolic link in the last part of path: the owner of a
// directory could lead root to any file with one. Such a link is an error of kind [hint.Usage]. The names of open files
// of this process are followed, which the system has as links.
func Open(path string, flags int, mode fs.FileMode) (*os.File, error) {
	if !descriptor.MatchString(path) {
		flags |= unix.O_NOFOLLOW
	}
	file, err := os.OpenFile(path, flags, mode)
	if err != nil {
		return nil, cmp.Or(CheckLink(path), err)
	}
	return file, nil
}

// descriptor matches names of open files, as shells and users write them. Others may lead through directories of other
// users.
var descriptor = regexp.MustCompile(`^(/dev/(stdout|stderr|fd/\d+)|/proc/self/fd/\d+)$`)

// CheckLink returns the error of [Open] for a symbolic link.
func CheckLink(path string) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 || descriptor.MatchString(path) {
		return nil
	}
	return hint.New(hint.Usage, path+" is a symbolic link, which is not followed to write",
		"name the file that it leads to")
}
