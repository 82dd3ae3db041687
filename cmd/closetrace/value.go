package main

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// numbers is a flag that takes a list, separated by commas or by repetition.
type numbers[T uint16 | uint32] struct {
	list *[]T
	what string // one of them, in an error
	max  uint64
}

func (n numbers[T]) String() string { return "" }

// Type is the word for the value in the help.
func (n numbers[T]) Type() string { return "LIST" }

// Set adds the numbers of text.
func (n numbers[T]) Set(text string) error {
	for word := range strings.SplitSeq(text, ",") {
		v, err := strconv.ParseUint(strings.TrimSpace(word), 10, 64)
		if err != nil || v < 1 || v > n.max {
			return &usageError{
				fmt.Sprintf("%q is not a %s", word, n.what),
				fmt.Sprintf("a %s is a number from 1 to %d; separate several by commas", n.what, n.max),
			}
		}
		if !slices.Contains(*n.list, T(v)) {
			*n.list = append(*n.list, T(v))
		}
	}
	return nil
}

// choice is a flag that takes one of a few words.
type choice[T ~string] struct {
	value *T
	of    []T
}

func (c choice[T]) String() string {
	if c.value == nil {
		return ""
	}
	return string(*c.value)
}

// Type is the word for the value in the help.
func (c choice[T]) Type() string { return "WORD" }

func (c choice[T]) words() []string {
	var words []string
	for _, w := range c.of {
		words = append(words, string(w))
	}
	return words
}

// Set takes one of the words.
func (c choice[T]) Set(text string) error {
	if !slices.Contains(c.of, T(text)) {
		return &usageError{fmt.Sprintf("%q is not a choice", text), "choose one of " + strings.Join(c.words(), ", ")}
	}
	*c.value = T(text)
	return nil
}

// size is a flag that takes a number of bytes.
type size struct{ bytes *int }

// The ring buffer's limits: below, a burst overflows it before it is read;
// above, a typing error would take the machine's memory.
const (
	minBuffer = 64 << 10
	maxBuffer = 1 << 30
)

func (s size) String() string {
	switch {
	case s.bytes == nil:
		return ""
	case *s.bytes%(1<<20) == 0:
		return strconv.Itoa(*s.bytes>>20) + "M"
	case *s.bytes%(1<<10) == 0:
		return strconv.Itoa(*s.bytes>>10) + "K"
	}
	return strconv.Itoa(*s.bytes)
}

// Type is the word for the value in the help.
func (s size) Type() string { return "SIZE" }

// Set takes bytes, or with a suffix KiB, MiB or GiB.
func (s size) Set(text string) error {
	const hint = "a power of two from 64K to 1G, as 512K or 16M"
	digits := strings.TrimRight(text, "KMGkmg")
	shift, known := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30}[strings.ToUpper(text[len(digits):])]
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || !known {
		return &usageError{fmt.Sprintf("%q is not a size", text), hint}
	}
	n <<= shift
	if n < minBuffer || n > maxBuffer || bits.OnesCount64(n) != 1 {
		return &usageError{fmt.Sprintf("a buffer of %s is not possible", text), hint}
	}
	*s.bytes = int(n)
	return nil
}
