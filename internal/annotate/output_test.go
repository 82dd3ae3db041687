package annotate

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/hint"
)

// A new file is removed if the annotation failed. One that was there stays as it is until it is written to.
func TestOutput(t *testing.T) {
	damaged := hint.New(hint.Incomplete, "cut", "")
	for _, tt := range []struct {
		name   string
		old    string // empty: none
		begins bool
		err    error
		want   string // empty: no file
	}{
		{"new", "", true, nil, "new"},
		{"damaged", "", true, damaged, "new"},
		{"failed before", "", false, io.ErrUnexpectedEOF, ""},
		{"failed while writing", "", true, io.ErrShortWrite, ""},
		{"replaced", "the old text", true, nil, "new"},
		{"not replaced", "the old text", false, io.ErrUnexpectedEOF, "the old text"},
	} {
		path := filepath.Join(t.TempDir(), "out")
		if tt.old != "" {
			if err := os.WriteFile(path, []byte(tt.old), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		o, err := Create(path, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.begins {
			w, err := o.Begin()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, "new"); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.Close(tt.err); !errors.Is(err, tt.err) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got, _ := os.ReadFile(path); string(got) != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

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
