package serve

import (
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sockets"
)

// Network namespaces that are not counted are in the log, once, and numbers that cannot be read do not become 0.
func TestStuckInOtherNamespaces(t *testing.T) {
	s := newService(t, 0)
	looks := 0
	waiting := sockets.Socket{
		Netns: 1, State: events.CloseWait, Inode: 7,
		Local: netip.MustParseAddrPort("10.0.0.5:443"), Remote: netip.MustParseAddrPort("10.0.0.9:33042"),
	}
	s.options.StuckEvery = 10 * time.Millisecond
	s.options.Stuck = &StuckSource{
		Source: &sockets.Source{
			List: func(to *sockets.List, netns uint32) (bool, error) {
				if netns != 1 {
					return false, fs.ErrPermission
				}
				to.Add(&waiting)
				return true, nil
			},
			Holders: func(sockets.Inodes) (*sockets.Holders, int, error) { return &sockets.Holders{}, 0, nil },
		},
		Namespaces: func() (map[uint32]string, int, error) {
			if looks++; looks > 3 {
				return nil, 0, errors.New("no network namespace \"web\"")
			}
			return map[uint32]string{1: "", 2: ""}, 0, nil
		},
	}
	s.start()
	s.eventually("the namespace is gone", func() bool { return strings.Contains(s.stderr.String(), "web") })
	if _, text := s.get("/metrics"); !strings.Contains(text, `closetrace_sockets_stuck{`) ||
		!strings.Contains(text, `state="CLOSE_WAIT"`) {
		t.Errorf("the number did not remain:\n%s", text)
	}
	if err := s.finish(); err != nil {
		t.Error(err)
	}
	log := s.stderr.String()
	if n := strings.Count(log, "CAP_SYS_ADMIN"); n != 1 {
		t.Errorf("%d times that a namespace may not be entered:\n%s", n, log)
	}
	if n := strings.Count(log, "no network namespace"); n != 1 {
		t.Errorf("%d times that a namespace is gone:\n%s", n, log)
	}
}

// A search that does not end, for example in a file system that does not answer, does not keep the service from ending,
// nor exporters from sending what is queued.
func TestEndWhileLookingForStuck(t *testing.T) {
	s := newService(t, 5)
	s.options.ShutdownTimeout = 200 * time.Millisecond
	looking, never := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(never) })
	s.options.StuckEvery = time.Hour
	s.options.Stuck = &StuckSource{Namespaces: func() (map[uint32]string, int, error) {
		close(looking)
		<-never
		return nil, 0, errors.New("too late")
	}}
	e := &slowExporter{each: time.Millisecond}
	s.options.Exporters = []Exporter{e}
	s.start()
	<-looking
	s.eventually("all endings are seen", func() bool { return e.seen.Load() == 5 })
	if err := s.finish(); err != nil || !strings.Contains(s.stderr.String(), "export: 0 endings dropped\n") {
		t.Errorf("%v\n%s", err, &s.stderr)
	}
}
