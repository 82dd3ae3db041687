// Package stdio says what the standard streams are connected to.
package stdio

import (
	"cmp"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Width returns columns, the value of COLUMNS, if it is a number above 0, otherwise the width of the terminal in cells,
// or 0 for a file or pipe.
func Width(f *os.File, columns string) int {
	if n, err := strconv.Atoi(columns); err == nil && n > 0 {
		return n
	}
	if n, _, err := term.GetSize(int(f.Fd())); err == nil {
		return n
	}
	return 0
}

// Height returns the height of the terminal in cells, or 0 for a file or pipe.
func Height(f *os.File) int {
	if _, n, err := term.GetSize(int(f.Fd())); err == nil {
		return n
	}
	return 0
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// HasColors reports whether a terminal has colours, and NO_COLOR does not forbid them.
func HasColors(getenv func(string) string) bool {
	kind := getenv("TERM")
	return getenv("NO_COLOR") == "" && kind != "" && kind != "dumb"
}

// IsUTF8 reports whether the locale is one of UTF-8, or none.
func IsUTF8(getenv func(string) string) bool {
	name := strings.ToLower(cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")))
	return name == "" || strings.HasSuffix(name, "utf-8") || strings.HasSuffix(name, "utf8")
}

// Closed reports whether f is a pipe or socket whose other end is closed, before a write would fail.
func Closed(f *os.File) bool {
	poll := []unix.PollFd{{Fd: int32(f.Fd())}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n == 1 && poll[0].Revents&unix.POLLERR != 0
}
