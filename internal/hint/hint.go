// Package hint holds the error that closetrace shows: what failed, what to do
// about it, and the exit code that follows from its kind.
package hint

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Kind is a class of errors that the user or a script acts on in the same way.
// It determines the exit code.
type Kind uint8

// The kinds. Those from FailOn on are the kinds of closetrace run.
const (
	Failed      Kind = iota // tracing or a lab scenario failed
	Usage                   // mistake on the command line
	Privilege               // missing capability, or refused by a security module or by lockdown
	Unsupported             // this kernel has no support for it, whatever the privileges
	Incomplete              // damaged or truncated recording
	Undecodable             // one record cannot be decoded; reading continues with the next one
	NoMatch                 // nothing matches what was asked for
	FailOn                  // an ending matched --fail-on
	Untraced                // the command was not traced, or not to its end, or its endings were not written
	CannotRun               // the command cannot be executed
	NoCommand               // command not found
	Command                 // the command of run failed; see Status
)

// bySignal is added to the number of the signal that killed the command, as a
// shell does.
const bySignal = 128

// kinds is the one table of exit codes. A kind without help never ends a process.
var kinds = [...]struct {
	code      int
	help, run string // in the help of other commands, of closetrace run
}{
	Failed:      {code: 1},
	Usage:       {code: 2, help: "usage error"},
	Privilege:   {code: 3, help: "missing privileges"},
	Unsupported: {code: 4, help: "not supported by this kernel"},
	Incomplete:  {code: 5, help: "the recording is damaged or truncated; everything before that was shown"},
	Undecodable: {code: 1},
	NoMatch:     {code: 6, help: "no connection matches"},
	FailOn:      {code: 124, run: "an ending matched --fail-on, whatever the command's own status"},
	Untraced: {code: 125, run: "closetrace could not trace the command and did not start it; or tracing\n" +
		"       failed before the command ended; or the command succeeded, but closetrace\n" +
		"       could not write its endings: see the message"},
	CannotRun: {code: 126, run: "the command cannot be executed"},
	NoCommand: {code: 127, run: "command not found"},
	Command:   {code: 1},
}

// ExitCodes returns the section on exit codes in the help of a command: failed says what failed if the code is that of
// [Failed], and of lists the other kinds of its errors.
func ExitCodes(failed string, of ...Kind) string {
	var b strings.Builder
	b.WriteString("Exit codes:\n  0  success (also when the output pipe is closed)\n")
	fmt.Fprintf(&b, "  %d  %s\n", kinds[Failed].code, failed)
	for kind, k := range kinds {
		if slices.Contains(of, Kind(kind)) {
			fmt.Fprintf(&b, "  %d  %s\n", k.code, k.help)
		}
	}
	return b.String()
}

// LiveExitCodes is like [ExitCodes] for a command that needs the kernel.
func LiveExitCodes(failed string) string { return ExitCodes(failed, Usage, Privilege, Unsupported) }

// RunExitCodes returns the section on exit codes in the help of closetrace run.
func RunExitCodes() string {
	var b strings.Builder
	b.WriteString("Exit codes of run:\n  the command's own; 128 plus the signal number if a signal killed the command\n")
	for _, k := range kinds {
		if k.run != "" {
			fmt.Fprintf(&b, "  %d  %s\n", k.code, k.run)
		}
	}
	return b.String()
}

// Error is an error with a kind and a hint. What may be empty: the text is then
// that of Err, and Error only gives Err a kind.
type Error struct {
	Kind Kind
	What string // what failed and why, in lower case, without a period
	Hint string // one thing to do about it
	Err  error  // the cause, if What does not say it

	status int // of the command, for kind Command
}

// Error returns What, followed by Err if both are set.
func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.What
	case e.What == "":
		return e.Err.Error()
	}
	return e.What + ": " + e.Err.Error()
}

// Unwrap returns the cause, which may be nil.
func (e *Error) Unwrap() error { return e.Err }

// New returns an [Error] that has no cause.
func New(kind Kind, what, hint string) error { return &Error{Kind: kind, What: what, Hint: hint} }

// As returns err with another kind. The text and the hint stay. It returns nil
// if err is nil.
func As(kind Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: kind, Err: err}
}

// Split returns the errors that err joins, each of which may have a hint, or err alone.
func Split(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}

// ErrReported is a failure that the command has already described in its output.
var ErrReported = errors.New("failed")

// Status returns the error of a command that exited with code, or nil for 0.
// A signal other than 0 killed the command, and determines the code.
func Status(code, signal int) error {
	if signal != 0 {
		code = bySignal + signal
	}
	if code == 0 {
		return nil
	}
	return &Error{Kind: Command, Err: ErrReported, status: code}
}

// Is reports whether kind is the kind of err: that of the first [Error] in its
// tree. An error without one has the kind [Failed].
func Is(err error, kind Kind) bool { return err != nil && kindOf(err) == kind }

func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Failed
}

// Of returns the first hint in the tree of err, or "".
func Of(err error) string {
	var e *Error
	for errors.As(err, &e) {
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}

// ExitCode returns the exit code for err: 0 for nil, 1 for an error without a kind.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	var e *Error
	if errors.As(err, &e) && e.status != 0 {
		return e.status
	}
	return kinds[kindOf(err)].code
}
