package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/sink"
)

// The exit codes, as in exitCodes.
const (
	exitOK = iota
	exitFailed
	exitUsage
	exitPrivilege
	exitUnsupported
	exitIncomplete
)

// exitCodes is for the reader of the help.
const exitCodes = `Exit codes:
  0  fine; also if whoever read the output stopped reading. Of check: tracing is possible
  1  a scenario of the lab failed, or tracing did
  2  wrong use
  3  missing privileges
  4  this kernel cannot do it
  5  a record is damaged or has no end; all that is whole was shown
closetrace run passes on its command's, and has some of its own: see its help
`

// The exit codes of run that are not the command's, as in runExitCodes.
const (
	exitFailOn    = 124
	exitUntraced  = 125
	exitCannotRun = 126
	exitNoCommand = 127
	exitBySignal  = 128 // and its number
)

// runExitCodes is for the reader of the help of run.
const runExitCodes = `Exit codes of run:
  the command's own; 128 and the signal's number if a signal killed it
  124  an ending of --fail-on occurred, however the command ended
  125  closetrace could not trace it: not at all, and then it was not started; or, as
       the message says, not to its end
  126  the command cannot be run
  127  there is no such command
`

// usageError is a mistake on the command line and the way out.
type usageError struct{ what, hint string }

func (e *usageError) Error() string { return e.what }

// Hint says what to do instead.
func (e *usageError) Hint() string { return e.hint }

// finish reports err, if there is one, and returns the exit code.
func finish(stderr io.Writer, err error) int {
	if err == nil || errors.As(err, new(*outputFailure)) && errors.Is(err, syscall.EPIPE) {
		return exitOK // whoever read the output has seen enough
	}
	if !errors.Is(err, errReported) {
		report(stderr, err)
	}
	var usage *usageError
	var status *exitStatus
	switch {
	case errors.As(err, &status):
		return status.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, kernel.ErrPrivilege):
		return exitPrivilege
	case errors.Is(err, kernel.ErrUnsupported):
		return exitUnsupported
	case errors.As(err, new(*incomplete)):
		return exitIncomplete
	}
	return exitFailed
}

// exitStatus is an error with an exit code of its own: of closetrace run.
type exitStatus struct {
	error
	code int
}

func (e *exitStatus) Unwrap() error { return e.error }

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

// oneLine is what a terminal shows as one line. Arguments, paths and what the
// kernel says are part of messages, and any bytes.
func oneLine(s string) string {
	return sink.Tame(strings.ReplaceAll(strings.TrimSpace(s), "\n", "; "))
}
