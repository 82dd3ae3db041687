package pipeline

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/rights"
	"github.com/closetrace/closetrace/internal/stdio"
)

// Open opens recordings as the user who called closetrace, all or none; "-" is standard input.
func Open(ctx context.Context, stdin *os.File, paths []string) (files []*os.File, err error) {
	for _, path := range paths {
		var file *os.File
		err := rights.AsUser(func() (err error) {
			file, err = openOne(ctx, stdin, path)
			return err
		})
		if err != nil {
			CloseAll(files)
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// CloseAll closes files.
func CloseAll(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

// openOne opens a file, or standard input for "-".
func openOne(ctx context.Context, stdin *os.File, path string) (*os.File, error) {
	if path != "-" {
		return record.Open(path)
	}
	if stdio.IsTerminal(stdin) {
		return nil, hint.New(hint.Usage, "standard input is a terminal",
			"name a file, or redirect one: closetrace replay - <FILE")
	}
	// A read of standard input may block for good. A signal ends the one of this pipe.
	var ends [2]int
	if err := unix.Pipe(ends[:]); err != nil { // macOS has no pipe2(2)
		return nil, fmt.Errorf("reading standard input: %w", err)
	}
	unix.CloseOnExec(ends[0])
	unix.CloseOnExec(ends[1])
	from, to := os.NewFile(uintptr(ends[0]), "standard input"), os.NewFile(uintptr(ends[1]), "")
	context.AfterFunc(ctx, func() { to.Close() })
	go func() {
		_, _ = io.Copy(to, stdin)
		to.Close()
	}()
	return from, nil
}
