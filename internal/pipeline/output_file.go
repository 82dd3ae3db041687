package pipeline

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/outfile"
)

// OutputTo says where endings are printed instead of a standard output: to a file, or to a descriptor that this process
// has inherited. The zero value is a standard output.
type OutputTo struct {
	File string
	FD   int // 0: none
}

// Given reports whether a file or a descriptor is given.
func (o OutputTo) Given() bool { return o.File != "" || o.FD != 0 }

// Others are the files of a run that its output may not be.
type Others struct {
	Inputs    []*os.File
	Recording string // may not exist yet; empty: none
}

// Inputs returns the files that [Open] has opened by these paths, with standard input itself, not the pipe from it.
func Inputs(stdin *os.File, paths []string, opened []*os.File) []*os.File {
	if slices.Contains(paths, "-") { // which is then the only one
		return []*os.File{stdin}
	}
	return opened
}

// Open opens the file, which is created if there is none, or the descriptor. A file keeps what is in it: see
// [outfile.Empty]. Open does not wait for the reader of a FIFO. An error is of kind [hint.Usage] if the file is one of
// others, or the descriptor cannot be written to.
func (o OutputTo) Open(others Others) (*os.File, error) {
	switch {
	case o.File != "" && o.FD != 0:
		return nil, hint.New(hint.Usage, "endings are printed to one place only", "use --output-file or --output-fd")
	case o.FD != 0:
		return inherited(o.FD)
	}
	f, err := outfile.Create(o.File, true, others.Inputs)
	if errors.Is(err, unix.ENXIO) {
		return nil, hint.New(hint.Usage, fmt.Sprintf("%s is a FIFO without a reader, or a socket", o.File),
			"start its reader first")
	}
	if err != nil {
		return nil, err
	}
	if err := f.Apart(others.Recording); err != nil {
		return nil, f.Close(err)
	}
	return f.File(), nil
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
