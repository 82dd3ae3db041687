package flagvalue

import (
	"testing"

	"github.com/closetrace/closetrace/internal/hint"
)

func TestNumber(t *testing.T) {
	for text, want := range map[string]int{
		"0": 0, "7": 7, "100": 100,
		"": -1, "-1": -1, "101": -1, "1.5": -1, "many": -1, "18446744073709551617": -1,
	} {
		n := 50
		err := Number{N: &n, Most: 100}.Set(text)
		switch {
		case want < 0 && (!hint.Is(err, hint.Usage) || hint.Of(err) == "" || n != 50):
			t.Errorf("%q: %d, %v", text, n, err)
		case want >= 0 && (err != nil || n != want):
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
}
