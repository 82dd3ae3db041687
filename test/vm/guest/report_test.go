package guest

import (
	"strings"
	"testing"
)

func TestCheckRetries(t *testing.T) {
	for _, tt := range []struct {
		retriable, retries int
		passes             bool
	}{{0, 0, true}, {1, 2, true}, {1, 3, false}, {59, 3, false}, {60, 3, true}, {200, 10, true}, {200, 11, false}} {
		r := Report{Retriable: tt.retriable}
		for range tt.retries {
			r.Retries = append(r.Retries, Retry{"TestLab/recv.rst", "1 missed probe"})
		}
		err := r.CheckRetries()
		if (err == nil) != tt.passes {
			t.Errorf("%d retries in %d tests: %v", tt.retries, tt.retriable, err)
		}
		if err != nil && strings.Count(err.Error(), "TestLab/recv.rst: 1 missed probe") != tt.retries {
			t.Errorf("not every retry is listed: %v", err)
		}
	}
}
