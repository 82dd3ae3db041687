package pipeline

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/hint"
)

// OutputTo says where endings are printed instead of a standard output: to a file, or to a descriptor that this process
// has inherited. The zero value is a standard output.
type OutputTo struct {
	File string
	FD   int // 0: none
}

// Given reports whether a file or a descriptor is given.
func (o OutputTo) Given() bool { return o.File != "" || o.FD != 0 }

// Open opens the file, which is created or truncated, or the descriptor. It does not wait for the reader of a FIFO. An
// error is of kind [hint.Usage] if the descriptor cannot be written to.
func (o OutputTo) Open() (*os.File, error) {
	switch {
	case o.File != "" && o.FD != 0:
		return nil, hint.New(hint.Usage, "endings are printed to one place only", "use --output-file or --output-fd")
	case o.FD != 0:
		return inherited(o.FD)
	}
	f, err := os.OpenFile(o.File, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
	if errors.Is(err, unix.ENXIO) {
		return nil, hint.New(hint.Usage, fmt.Sprintf("%s is a FIFO without a reader, or a socket", o.File),
			"start its reader first")
	}
	return f, err
}

// inherited returns a descriptor above those of the standard streams.
func inherited(fd int) (*os.File, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_ACCMODE == unix.O_RDONLY { // which one of O_PATH is as well
		return nil, hint.New(hint.Usage, fmt.Sprintf("descriptor %d is not open for writing", fd),
			fmt.Sprintf("let the shell open it: closetrace --output-fd %d %d>FILE", fd, fd))
	}
	unix.CloseOnExec(fd) // a command of run does not inherit it
	return os.NewFile(uintptr(fd), fmt.Sprintf("descriptor %d", fd)), nil
}
