package flagvalue

import (
	"fmt"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/hint"
)

// Choice is a flag that takes one of a few words.
type Choice[T ~string] struct {
	value *T
	of    []T
}

// OneOf returns a flag that sets value to one of the words.
func OneOf[T ~string](value *T, of ...T) Choice[T] { return Choice[T]{value, of} }

// String returns the default.
func (c Choice[T]) String() string {
	if c.value == nil {
		return ""
	}
	return string(*c.value)
}

// Type returns the placeholder of the value in the help.
func (c Choice[T]) Type() string { return "WORD" }

// Words returns the words, for completion.
func (c Choice[T]) Words() []string {
	var words []string
	for _, w := range c.of {
		words = append(words, string(w))
	}
	return words
}

// Set accepts one of the words.
func (c Choice[T]) Set(text string) error {
	if !slices.Contains(c.of, T(text)) {
		return hint.New(hint.Usage, fmt.Sprintf("unknown value %q", text), "use one of "+strings.Join(c.Words(), ", "))
	}
	*c.value = T(text)
	return nil
}
