package flagvalue

import (
	"slices"
	"testing"

	"github.com/closetrace/closetrace/internal/hint"
)

func TestChoice(t *testing.T) {
	type word string
	value := word("table")
	c := OneOf(&value, "table", "json")
	if c.String() != "table" || !slices.Equal(c.Words(), []string{"table", "json"}) {
		t.Errorf("default %q of %q", c, c.Words())
	}
	if err := c.Set("json"); err != nil || value != "json" {
		t.Errorf("%q, %v", value, err)
	}
	if err := c.Set("JSON"); !hint.Is(err, hint.Usage) || value != "json" {
		t.Errorf("%q, %v", value, err)
	}
	if (Choice[word]{}).String() != "" {
		t.Error("the zero value has a default")
	}
}
