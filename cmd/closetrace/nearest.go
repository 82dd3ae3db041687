package main

import (
	"strings"

	"github.com/closetrace/closetrace/internal/explain"
)

// nearest says in a hint which of the words may have been meant, or else what
// lists them.
func nearest(word string, of []string, otherwise string) string {
	if near := explain.Near(word, of); len(near) > 0 {
		return "did you mean " + strings.Join(near, " or ") + "?"
	}
	return otherwise
}
