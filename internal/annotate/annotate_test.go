package annotate

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestInterruptible(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	r := Interruptible{ctx, strings.NewReader("text")}
	if n, err := r.ReadAt(make([]byte, 4), 0); n != 4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	stop()
	if _, err := r.ReadAt(make([]byte, 4), 0); !errors.Is(err, errInterrupted) {
		t.Errorf("%v", err)
	}
}
