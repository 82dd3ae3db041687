package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
)

// broken is a source that fails after its facts.
type broken struct{ *fakeSource }

func (b broken) Read(ev *events.Event) error {
	if err := b.fakeSource.Read(ev); !errors.Is(err, probe.ErrIdle) {
		return err
	}
	return errors.New("the source is broken")
}

// If tracing fails, the command goes on to its end, and the guard does not say
// that all was fine.
func TestRunOutlivesTheTracing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "written at its end")
	var said strings.Builder
	e := fakeSystem(0)
	e.stdout, e.stderr = io.Discard, &said
	e.open = func(context.Context, probe.Options) (source, error) {
		return broken{&fakeSource{left: 1}}, nil
	}
	e.args = []string{"run", "--", "sh", "-c", `sleep 0.2; echo x >"$0"; exit 3`, file}
	if code := run(t.Context(), e); code != exitUntraced {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	const want = "\nclosetrace: the command was not traced to its end, the command itself: exit status 3: the source is broken\n"
	if !strings.Contains(said.String(), want) || !strings.Contains(said.String(), "\n1 ending in ") {
		t.Errorf("said:\n%s", &said)
	}
}
