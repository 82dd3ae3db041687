// Command tells says where in its own code a line is, and waits for the end of its
// input.
package main

import (
	"os"
	"runtime"
	"strconv"
)

func main() { here() }

//go:noinline
func here() {
	pc, _, line, _ := runtime.Caller(0)
	os.Stdout.WriteString(strconv.FormatUint(uint64(pc), 10) + " " + strconv.Itoa(line) + "\n")
	os.Stdin.Read(make([]byte, 1))
}
