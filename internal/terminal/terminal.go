// Package terminal hides the type of the terminal until main.
//
// A library of the screen looks up what a terminal can do when it is initialized: it would open files that the user
// names in the environment, with the capabilities of this process, in every command. This package depends on so little
// that it is initialized before that library: see "Package initialization" of the Go specification.
package terminal

import "os"

const variable = "TERM"

var kind, known = hide()

func hide() (kind string, known bool) {
	kind, known = os.LookupEnv(variable)
	if known {
		_ = os.Unsetenv(variable) // it exists
	}
	return kind, known
}

// Restore restores the type of the terminal. Main calls it first.
func Restore() error {
	if !known {
		return nil
	}
	return os.Setenv(variable, kind)
}
