package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/closetrace/closetrace/internal/kernel"
)

// The exit codes, as in exitCodes.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitPrivilege
	exitUnsupported
)

// exitCodes is for the reader of the help.
const exitCodes = `Exit codes:
  0  fine; also if whoever read the output stopped reading
  1  a scenario of the lab failed, or tracing did
  2  wrong use
  3  missing privileges
  4  this kernel cannot do it
`

// usageError is a mistake on the command line and the way out.
type usageError struct{ what, hint string }

func (e *usageError) Error() string { return e.what }

// Hint says what to do instead.
func (e *usageError) Hint() string { return e.hint }

// finish reports err, if there is one, and returns the exit code.
func finish(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	if !errors.Is(err, errReported) {
		report(stderr, err)
	}
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, kernel.ErrPrivilege):
		return exitPrivilege
	case errors.Is(err, kernel.ErrUnsupported):
		return exitUnsupported
	}
	return exitFailed
}

// errReported is a failure that its command has told in its own way.
var errReported = errors.New("failed")

// report tells an error in one line, and in a second one what to do.
//
// The voice of closetrace on standard error: a line begins with "closetrace:"
// and a lower-case letter, ends without a period, and says what happened rather
// than that it failed. What can be done about it follows as "hint:".
func report(w io.Writer, err error) {
	fmt.Fprintln(w, "closetrace: "+oneLine(err.Error()))
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) && hinter.Hint() != "" {
		fmt.Fprintln(w, "hint: "+oneLine(hinter.Hint()))
	}
}

func oneLine(s string) string {
	return strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
}
