// Command closetrace shows how and why each TCP connection of a machine ended.
//
// It has one file per command, which turns flags into the options of the packages
// below internal/, and their errors into one line, a hint and an exit code. Data
// goes to standard output, everything else to standard error.
package main

import (
	"context"
	"os"

	"github.com/closetrace/closetrace/internal/terminal"
)

func main() {
	if err := terminal.Restore(); err != nil {
		panic(err) // the name is valid
	}
	if runHelper() {
		return
	}
	os.Exit(run(context.Background(), thisSystem()))
}
