package kernel

import "errors"

// What stands in the way, for errors.Is.
var (
	// ErrPrivilege: the process lacks a capability, or a security module or
	// lockdown refuses it.
	ErrPrivilege = errors.New("missing privilege")
	// ErrUnsupported: this kernel cannot do it, whoever asks.
	ErrUnsupported = errors.New("not supported by this kernel")
)

// Error is a failure that an operator has to act on: what happened, in one
// line, and what to do next.
type Error struct {
	Kind error  // ErrPrivilege or ErrUnsupported
	What string // lower case, names the operation and the kernel
	Next string // the hint: what to do now
}

func (e *Error) Error() string { return e.What }

// Hint says what to do next.
func (e *Error) Hint() string { return e.Next }

// Unwrap makes errors.Is match the kind.
func (e *Error) Unwrap() error { return e.Kind }
