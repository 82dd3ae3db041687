// Package regular opens files whose names a user gives, and which may turn out to be something else.
package regular

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a file may keep a reader waiting. Those on a disk never do.
const patience = time.Second

// Open opens a regular file to read. It does not block, whatever path leads to, and no more does a read for long.
func Open(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	// Some files of the kernel are regular, and a read waits for what has not happened yet: /proc/kmsg. Where there is
	// no deadline, nothing waits: such a read fails.
	_ = file.SetReadDeadline(time.Now().Add(patience))
	return file, nil
}
