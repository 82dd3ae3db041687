package command

import (
	"context"
	"os"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/hint"
)

func start(t *testing.T, ctx context.Context, argv ...string) (*Command, error) {
	t.Helper()
	c, err := New(argv, os.Stdin, os.Stdout, os.Stderr)
	if err != nil {
		return nil, err
	}
	return c, c.Start(ctx, fakeGroup{})
}

func TestStatus(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143} {
		c, err := start(t, t.Context(), "sh", "-c", script)
		if err != nil {
			t.Fatal(err)
		}
		<-c.Done()
		c.Close()
		if got := hint.ExitCode(c.Status()); got != want {
			t.Errorf("%s: exit code %d, want %d", script, got, want)
		}
	}
}

func TestCannotStart(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		ctx  context.Context
		name string
		want int
	}{
		{t.Context(), "no-such-command-anywhere", 127},
		{t.Context(), "/no/such/command", 127},
		{t.Context(), "/", 126},
		{ended, "true", 125},
	} {
		if _, err := start(t, tt.ctx, tt.name); hint.ExitCode(err) != tt.want {
			t.Errorf("%s: %v, exit code %d, want %d", tt.name, err, hint.ExitCode(err), tt.want)
		}
	}
}

func TestFailOn(t *testing.T) {
	f := NewFailOn([]filter.Pattern{"close.rst", "recv.rst"})
	if f.Count(&events.Ending{Path: events.CloseFINActive}); f.Err("exit status 0") != nil {
		t.Error("an ending that matches nothing is counted")
	}
	for _, path := range []events.Path{events.RecvRST, events.CloseRSTUnread, events.RecvRST} {
		f.Count(&events.Ending{Path: path})
	}
	err := f.Err("exit status 3")
	const want = "--fail-on: close.rst.unread (1), recv.rst (2); the command itself: exit status 3"
	if !hint.Is(err, hint.FailOn) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if !f.Active() || NewFailOn(nil).Active() {
		t.Error("active without patterns, or inactive with some")
	}
}
