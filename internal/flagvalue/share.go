package flagvalue

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/closetrace/closetrace/internal/hint"
)

// Share is a part of a whole, from 0 to 1: 5% or 0.05.
type Share struct{ Of *float64 }

// String returns "": there is no default.
func (s Share) String() string { return "" }

// Type returns the placeholder of the value in the help.
func (s Share) Type() string { return "SHARE" }

// Set accepts a percentage or a fraction.
func (s Share) Set(text string) error {
	number, isPercent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if isPercent {
		share /= 100
	}
	if err != nil || !(share >= 0 && share <= 1) { // NaN is neither
		return hint.New(hint.Usage, fmt.Sprintf("invalid share %q", text), "use 0% to 100%, for example 5%")
	}
	*s.Of = share
	return nil
}
