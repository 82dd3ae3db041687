package flagvalue

import (
	"fmt"
	"strconv"

	"github.com/closetrace/closetrace/internal/hint"
)

// Count is a number of at least 1.
type Count struct{ N *int }

// String returns "": there is no default.
func (c Count) String() string { return "" }

// Type returns the placeholder of the value in the help.
func (c Count) Type() string { return "COUNT" }

// Set accepts a number.
func (c Count) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 20)
	if err != nil || n == 0 {
		return hint.New(hint.Usage, fmt.Sprintf("invalid number %q", text), "use a number from 1 to 1048575")
	}
	*c.N = int(n)
	return nil
}

// Number is a number from 0 to Most.
type Number struct {
	N    *int
	Most int
}

// String returns the default.
func (n Number) String() string {
	if n.N == nil {
		return ""
	}
	return strconv.Itoa(*n.N)
}

// Type returns the placeholder of the value in the help.
func (n Number) Type() string { return "N" }

// Set accepts a number.
func (n Number) Set(text string) error {
	number, err := strconv.Atoi(text)
	if err != nil || number < 0 || number > n.Most {
		return hint.New(hint.Usage, fmt.Sprintf("%q is not a number from 0 to %d", text, n.Most), "choose another one")
	}
	*n.N = number
	return nil
}
