package serve

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/record"
)

// gatedSource has no event until its gate is closed.
type gatedSource struct {
	*resetting
	gate chan struct{}
}

func (g gatedSource) Read(ev *events.Event) error {
	select {
	case <-g.gate:
		return g.resetting.Read(ev)
	case <-time.After(time.Millisecond):
		return events.ErrIdle
	}
}

// A recording that fails changes a metric and the result of the end. The daemon goes on, alive and ready.
func TestRecordingFails(t *testing.T) {
	s := newService(t, 5)
	source := gatedSource{&s.source, make(chan struct{})}
	s.options.Live.System.Open = func(context.Context, probe.Options) (pipeline.Source, error) { return source, nil }
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.options.Live.Recording = pipeline.RecordingOptions{
		Path: filepath.Join(dir, "ring.rec"), Rotation: record.Rotation{Every: time.Nanosecond},
	}
	s.start()
	if _, text := s.get("/metrics"); !strings.Contains(text, "\nclosetrace_recording_failed 0\n") {
		t.Errorf("before the failure:\n%s", text)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	close(source.gate)
	for _, want := range []string{
		"closetrace_recording_failed 1", `closetrace_tcp_endings_total{path="close.rst.unread",workload="nginx"} 5`,
	} {
		s.eventually(want, func() bool {
			_, text := s.get("/metrics")
			return strings.Contains(text, "\n"+want+"\n")
		})
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := s.get(path); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if err := s.finish(); err == nil || !strings.Contains(err.Error(), "is incomplete") {
		t.Errorf("it ended with %v", err)
	}
}
