// Package flagvalue parses the values of flags. Each type is a pflag.Value, whose errors have a hint.
package flagvalue

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/hint"
)

// Duration is a time, which must not be negative.
type Duration struct{ Time *time.Duration }

// String returns the time, "" for none.
func (d Duration) String() string {
	if d.Time == nil || *d.Time == 0 {
		return ""
	}
	return d.Time.String()
}

// Type returns the placeholder of the value in the help.
func (d Duration) Type() string { return "TIME" }

// Set accepts a number with a unit.
func (d Duration) Set(text string) error {
	if _, err := strconv.ParseUint(text, 10, 64); err == nil && text != "0" {
		return hint.New(hint.Usage, fmt.Sprintf("%q has no unit", text), fmt.Sprintf("%ss or %sm?", text, text))
	}
	parsed, err := time.ParseDuration(text)
	if err != nil && !strings.HasPrefix(text, "-") && isTime(strings.Map(toZero, text)) {
		return hint.New(hint.Usage, fmt.Sprintf("%q is too long", text), "use at most 2500000h, which is 285 years")
	}
	if err != nil || parsed < 0 {
		return hint.New(hint.Usage, fmt.Sprintf("%q is not a time", text), "use a number with a unit, such as 10s or 5m")
	}
	*d.Time = parsed
	return nil
}

func isTime(text string) bool {
	_, err := time.ParseDuration(text)
	return err == nil
}

// toZero returns 0 for a digit: what is a time with zeros only is one that is too long.
func toZero(r rune) rune {
	if '0' <= r && r <= '9' {
		return '0'
	}
	return r
}

// Size is a number of bytes.
type Size struct{ Bytes *int }

// The limits of the ring buffer: a burst overflows a smaller one before it is read,
// and a larger one is probably a typing error.
const (
	minBuffer = 64 << 10
	maxBuffer = 1 << 30
)

// String returns the number with the greatest unit that divides it.
func (s Size) String() string {
	switch {
	case s.Bytes == nil:
		return ""
	case *s.Bytes%(1<<20) == 0:
		return strconv.Itoa(*s.Bytes>>20) + "M"
	case *s.Bytes%(1<<10) == 0:
		return strconv.Itoa(*s.Bytes>>10) + "K"
	}
	return strconv.Itoa(*s.Bytes)
}

// Type returns the placeholder of the value in the help.
func (s Size) Type() string { return "SIZE" }

// Set accepts a number of bytes, or of KiB, MiB or GiB with a suffix.
func (s Size) Set(text string) error {
	const next = "use a power of two from 64K to 1G, for example 512K or 16M"
	digits := strings.TrimRight(text, "KMGkmg")
	shift, known := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30}[strings.ToUpper(text[len(digits):])]
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || !known {
		return hint.New(hint.Usage, fmt.Sprintf("invalid size %q", text), next)
	}
	n <<= shift
	if n < minBuffer || n > maxBuffer || bits.OnesCount64(n) != 1 {
		return hint.New(hint.Usage, fmt.Sprintf("invalid size %s", text), next)
	}
	*s.Bytes = int(n)
	return nil
}
