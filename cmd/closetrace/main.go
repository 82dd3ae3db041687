// Command closetrace tells how every TCP connection of a machine ends, and why.
//
// This room wires the others: it turns flags into options of the probe, lets
// facts flow through the classifier into a sink, and errors into one line, a
// hint and an exit code. It draws no conclusions of its own. Data goes to
// standard output, everything else to standard error.
package main

import (
	"context"
	"os"

	"github.com/closetrace/closetrace/internal/lab"
)

func main() {
	if lab.RunHelper() {
		return // this process is a prop of one of the lab's scenarios
	}
	os.Exit(run(context.Background(), system()))
}
