package live

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/rawevent"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/test/fake"
)

// steps is a System that notes what a run asks of it.
type steps struct {
	fake.Source
	names []string
	rsts  uint64 // a counter that moves by one at each reading
}

func (s *steps) Detach() error { s.note("detach"); return s.Source.Detach() }
func (s *steps) Close() error  { s.note("close"); return s.Source.Close() }

func (s *steps) note(name string) { s.names = append(s.names, name) }

func (s *steps) options(stderr *bytes.Buffer) Options {
	noCgroups := func() (func(*events.Event), error) { return nil, errors.New("no cgroup v2") }
	return Options{
		Options: pipeline.Options{Limit: 1, Stderr: stderr},
		Probe:   probe.Options{Log: slog.New(slog.NewTextHandler(stderr, nil))},
		Resolve: ResolverOptions{Proc: "/proc", Cgroups: noCgroups},
		System: System{
			Open:       func(context.Context, probe.Options) (pipeline.Source, error) { s.note("attach"); return s, nil },
			Privileges: func() []kernel.Privilege { return []kernel.Privilege{{Name: "CAP_X", Unseen: "owners"}} },
			DropPrivileges: func(later kernel.Use) error {
				s.note("drop")
				if later == kernel.EntersNetns {
					s.note("but CAP_SYS_ADMIN")
				}
				return nil
			},
			ReadCounters: func(path string, inode uint32) (sink.Counters, error) {
				if path != "/run/netns/web" || inode != fake.Netns {
					return nil, errors.New("another namespace")
				}
				s.note("count")
				s.rsts++
				return sink.Counters{"TcpOutRsts": s.rsts}, nil
			},
		},
		Counters: CounterOptions{Netns: fake.Netns, Path: "/run/netns/web"},
	}
}

// A run reads the counters around attaching and detaching, drops privileges once attached, and reports what the
// missing ones hide.
func TestStart(t *testing.T) {
	var out, stderr bytes.Buffer
	s := &steps{Source: fake.Source{Left: 1}}
	r, err := Start(t.Context(), sink.NewJSONL(&out), s.options(&stderr))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Trace(t.Context()), r.Close()); err != nil {
		t.Fatal(err)
	}
	want := []string{"count", "attach", "count", "drop", "but CAP_SYS_ADMIN", "count", "detach", "count", "close"}
	if !slices.Equal(s.names, want) {
		t.Errorf("got %q, want %q", s.names, want)
	}
	for _, want := range []string{
		"missing privileges: the following will not be reported", "owners", "cgroup names unavailable",
		"closetrace: tracing on 6.1.0-fake by fentry; end with Ctrl-C\n", "\n1 ending in ", "2 records lost",
		"--count stopped the run before all events were read",
	} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &stderr)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("%d endings", n)
	}
}

// A source that cannot be recorded is closed again, and nothing is dropped.
func TestStartWithoutARecording(t *testing.T) {
	var out, stderr bytes.Buffer
	s := &steps{}
	o := s.options(&stderr)
	o.Recording = pipeline.RecordingOptions{Path: filepath.Join(t.TempDir(), "none", "file")}
	_, err := Start(t.Context(), sink.NewJSONL(&out), o)
	if err == nil || !strings.HasPrefix(err.Error(), "recording: open ") {
		t.Errorf("got %v", err)
	}
	if want := []string{"count", "attach", "close"}; !slices.Equal(s.names, want) {
		t.Errorf("got %q, want %q", s.names, want)
	}
}

// A recording has the audited namespace in its header, and at its end what the summary counts.
func TestRecordingOfARun(t *testing.T) {
	var out, stderr bytes.Buffer
	s := &steps{Source: fake.Source{Left: 3}}
	o := s.options(&stderr)
	o.Limit, o.Recording = 3, pipeline.RecordingOptions{Path: filepath.Join(t.TempDir(), "run.rec")}
	r, err := Start(t.Context(), sink.NewJSONL(&out), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Trace(t.Context()); err != nil {
		t.Fatal(err)
	}
	file, err := record.Open(o.Recording.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	in, err := record.Read(file, rawevent.Recorded)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range in.Events() {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 3 || in.Header.AuditNetns != fake.Netns || in.End == nil || in.End.LostRecords != 2 || in.End.TookNS <= 0 {
		t.Errorf("%d events, header %+v, end %+v", n, in.Header, in.End)
	}
}
