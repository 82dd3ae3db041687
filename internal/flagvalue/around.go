package flagvalue

import (
	"fmt"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/hint"
)

// Around is a list and, after a colon, the times before and after something that is in it.
type Around struct {
	List          interface{ Set(text string) error }
	Before, After *time.Duration
}

// String returns "": nothing is in the list by default.
func (a Around) String() string { return "" }

// Type returns the placeholder of the value in the help.
func (a Around) Type() string { return "LIST[:BEFORE,AFTER]" }

// Set parses all. Without times, those that were there stay.
func (a Around) Set(text string) error {
	list, times, found := strings.Cut(text, ":")
	if found {
		before, after, both := strings.Cut(times, ",")
		if !both {
			return hint.New(hint.Usage, fmt.Sprintf("%q is not two times", times), "for example rst:30s,10s")
		}
		if err := (Duration{a.Before}).Set(before); err != nil {
			return err
		}
		if err := (Duration{a.After}).Set(after); err != nil {
			return err
		}
	}
	return a.List.Set(list)
}
