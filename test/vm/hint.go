package main

import "github.com/closetrace/closetrace/internal/hint"

// withHint adds to an error what to do about it.
func withHint(err error, what string) error {
	return &hint.Error{Err: err, Hint: what}
}
