package annotate

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/hint"
)

// Output is the file to write to. Until it is begun, a file that exists stays as it is.
type Output struct {
	file    *os.File
	created bool
}

// Create opens a file to write to, which may not be one of inputs. A regular file that exists is an error of kind
// [hint.Usage] without force.
func Create(path string, force bool, inputs []*os.File) (*Output, error) {
	const flags = os.O_WRONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	file, err := os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return &Output{file: file, created: true}, nil
	}
	info, statErr := os.Stat(path)
	if !errors.Is(err, fs.ErrExist) || statErr != nil {
		return nil, hint.New(hint.Usage, err.Error(), "name another file with -o")
	}
	for _, in := range inputs {
		if read, err := in.Stat(); err == nil && os.SameFile(read, info) {
			return nil, hint.New(hint.Usage, path+" is also read", "write to another file")
		}
	}
	if info.Mode().IsRegular() && !force {
		return nil, hint.New(hint.Usage, path+" exists", "use another name, or --force to replace the file")
	}
	if file, err = os.OpenFile(path, flags, 0); err != nil {
		return nil, hint.New(hint.Usage, err.Error(), "name another file with -o")
	}
	return &Output{file: file}, nil
}

// Begin returns the file, without what was in it.
func (o *Output) Begin() (io.Writer, error) {
	if info, err := o.file.Stat(); err != nil || !info.Mode().IsRegular() {
		return o.file, err
	}
	return o.file, o.file.Truncate(0)
}

// Close closes the file. It returns err or, if that is nil, its own error. A new file is removed if the annotation
// failed: part of a capture may look like a whole one.
func (o *Output) Close(err error) error {
	if closeErr := o.file.Close(); err == nil {
		err = closeErr
	}
	if o.created && err != nil && !hint.Is(err, hint.Incomplete) {
		_ = os.Remove(o.file.Name())
	}
	return err
}
