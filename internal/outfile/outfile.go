// Package outfile opens files that are written from what was read: no output is one of the inputs, and a file that
// exists stays as it is until there is something to write.
package outfile

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/hint"
)

// File is a file to write to. Until it is begun, a file that exists stays as it is.
type File struct {
	file           *os.File
	created, begun bool
}

// Create opens a file to write to, which may not be one of inputs. Only its owner may read a new one. A regular file
// that exists is an error of kind [hint.Usage] without force, and a symbolic link with it as well: see [Open]. Create
// does not wait for the reader of a FIFO: without one it returns an error.
func Create(path string, force bool, inputs []*os.File) (*File, error) {
	const flags = os.O_WRONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	file, err := os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return &File{file: file, created: true}, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return nil, hint.Creating(err)
	}
	info, statErr := os.Stat(path)
	if statErr == nil && isOneOf(info, inputs) {
		return nil, hint.New(hint.Usage, path+" is also read", another)
	}
	if err := cmp.Or(CheckLink(path), statErr); err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() && !force {
		return nil, hint.New(hint.Usage, path+" exists", "use another name, or --force to replace the file")
	}
	if file, err = Open(path, flags, 0); err != nil {
		return nil, hint.Creating(err)
	}
	return &File{file: file}, nil
}

const another = "write to another file"

// isOneOf reports whether a file is one of others, by whatever name. A device may be both.
func isOneOf(file fs.FileInfo, others []*os.File) bool {
	return file.Mode().IsRegular() && slices.ContainsFunc(others, func(other *os.File) bool {
		info, err := other.Stat()
		return err == nil && os.SameFile(info, file)
	})
}

// Apart returns an error of kind [hint.Usage] if the file is also the recording of that name, which would have two
// writers. The recording need not exist.
func (f *File) Apart(recording string) error {
	other, err := os.Stat(recording)
	if err != nil || !isOneOf(other, []*os.File{f.file}) {
		return nil
	}
	return hint.New(hint.Usage, f.file.Name()+" is also recorded to", another)
}

// File returns the file with what is still in it, for [Empty].
func (f *File) File() *os.File { return f.file }

// Begin returns the file, without what was in it.
func (f *File) Begin() (*os.File, error) {
	f.begun = true
	return f.file, Empty(f.file)
}

// Empty removes what is in a file, unless it is a FIFO or a device.
func Empty(file *os.File) error {
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return err
	}
	return file.Truncate(0)
}

// Close closes the file. It returns err or, if that is nil, its own error. A new file is removed if it was not begun,
// or not completed: a part may look like the whole.
func (f *File) Close(err error) error {
	if closeErr := f.file.Close(); err == nil {
		err = closeErr
	}
	if f.created && (!f.begun || err != nil && !hint.Is(err, hint.Incomplete)) {
		_ = os.Remove(f.file.Name())
	}
	return err
}
