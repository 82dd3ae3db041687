package screen

import (
	"strings"
	"testing"
)

// What is written before the screen is shown is passed on at once, and what is written meanwhile comes after it.
func TestDelayedWriter(t *testing.T) {
	var stderr strings.Builder
	d := NewDelayedWriter(&stderr)
	write := func(text, want string) {
		t.Helper()
		if _, err := d.Write([]byte(text)); err != nil || stderr.String() != want {
			t.Errorf("got %q, %v, want %q", stderr.String(), err, want)
		}
	}
	write("before ", "before ")
	d.hold()
	write("behind ", "before ")
	if err := d.release(); err != nil {
		t.Fatal(err)
	}
	write("after", "before behind after")
}
