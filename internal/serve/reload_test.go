package serve

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/closetrace/closetrace/internal/hint"
)

// A reload applies what can change, names what cannot, and keeps everything if there is a mistake.
func TestReload(t *testing.T) {
	s := newService(t, 5)
	var next atomic.Value
	next.Store(s.options.Settings)
	s.options.Reload = func() (Settings, []string, error) {
		if to := next.Load().(Settings); to.Last > 0 {
			return to, []string{"listen", "attach"}, nil
		}
		return Settings{}, nil, hint.As(hint.Usage, errors.Join(
			hint.New(hint.Usage, `c.yaml:2: unknown key "x"`, "leave it out"),
			hint.New(hint.Usage, "c.yaml:3: stuck-every: \"5\" has no unit", "5s?")))
	}
	s.start()
	s.eventually("all endings are seen", func() bool {
		_, body := s.get("/debug/last")
		return strings.Contains(body, `"seen":5`)
	})
	to := s.options.Settings
	to.Last, to.Bounds.Workloads = 2, 0
	next.Store(to)
	s.hangups <- syscall.SIGHUP
	s.eventually("reloaded", func() bool {
		return strings.Contains(s.stderr.String(), "reloaded the configuration; restart to change listen, attach\n")
	})
	checkLast(t, s, "/debug/last", 2)
	if _, text := s.get("/metrics"); strings.Contains(text, `workload="nginx"`) {
		t.Errorf("the workloads are not forgotten:\n%s", text)
	}
	next.Store(Settings{})
	s.hangups <- syscall.SIGHUP
	s.eventually("not reloaded", func() bool {
		return strings.Contains(s.stderr.String(),
			"closetrace: the configuration was not reloaded: c.yaml:2: unknown key \"x\"\nhint: leave it out\n"+
				"closetrace: the configuration was not reloaded: c.yaml:3: stuck-every: \"5\" has no unit\nhint: 5s?\n")
	})
	checkLast(t, s, "/debug/last", 2)
	if err := s.finish(); err != nil {
		t.Error(err)
	}
}

// A reload that does not end does not keep the service from ending.
func TestEndWhileReloading(t *testing.T) {
	s := newService(t, 1)
	reloading, never := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(never) })
	s.options.Reload = func() (Settings, []string, error) {
		close(reloading)
		<-never
		return Settings{}, nil, errors.New("too late")
	}
	s.start()
	s.hangups <- syscall.SIGHUP
	<-reloading
	if err := s.finish(); err != nil {
		t.Error(err)
	}
}
