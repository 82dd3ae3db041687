package enrich

import (
	"bytes"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxFile is how much of a file of /proc or of a cgroup is read. Those that are read here are shorter.
const maxFile = 64 << 10

// errNoFile means that a path does not lead to a regular file.
var errNoFile = errors.New("not a regular file")

// readFile returns the first 64 KB of a regular file. It does not follow a symbolic link at the end of the path, and
// never waits for another process, because other users may control what stands there.
func readFile(path string) ([]byte, error) { return readUpTo(path, maxFile) }

// readUpTo is readFile with another limit.
func readUpTo(path string, limit int64) ([]byte, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(io.LimitReader(f, limit))
	return b.Bytes(), err
}

// openFile opens a regular file for reading: it opens nothing that blocks or acts when it is opened.
func openFile(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	f, _, err := reopen(fd)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return f, nil
}

// reopen opens for reading what an O_PATH descriptor refers to, if it is a regular file.
func reopen(path int) (*os.File, *unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(path, &st); err != nil {
		return nil, nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil, errNoFile
	}
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := unix.Open("/proc/self/fd/"+id(uint32(path)), flags, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), "file"), &st, nil
}

// eachName calls visit with the names in a directory until it returns false. It does not wait, or follow a symbolic
// link at the end of the path.
func eachName(dir string, visit func(name string) bool) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	d := os.NewFile(uintptr(fd), dir)
	defer d.Close()
	const some = 1024 // a process may have millions of descriptors
	for {
		names, err := d.Readdirnames(some)
		for _, name := range names {
			if !visit(name) {
				return nil
			}
		}
		if err != nil { // the end, or the directory was removed meanwhile
			return nil
		}
	}
}
