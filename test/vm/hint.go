package main

import "errors"

// hintError is an error with what to do about it.
type hintError struct {
	error
	hint string
}

func hinted(err error, hint string) error {
	return hintError{err, hint}
}

func (e hintError) Unwrap() error { return e.error }

// hintOf returns the hint of err, or "".
func hintOf(err error) string {
	var h hintError
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}
