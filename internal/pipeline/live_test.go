package pipeline

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/kernel"
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

func (s *steps) options(stderr *bytes.Buffer) LiveOptions {
	noCgroups := func() (func(*events.Event), error) { return nil, errors.New("no cgroup v2") }
	return LiveOptions{
		Options: Options{Limit: 1, Stderr: stderr},
		Probe:   probe.Options{Log: slog.New(slog.NewTextHandler(stderr, nil))},
		Resolve: ResolverOptions{Proc: "/proc", Cgroups: noCgroups},
		System: System{
			Open:       func(context.Context, probe.Options) (Source, error) { s.note("attach"); return s, nil },
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
	o.Recording = RecordingOptions{Path: filepath.Join(t.TempDir(), "none", "file")}
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
	o.Limit, o.Recording = 3, RecordingOptions{Path: filepath.Join(t.TempDir(), "run.rec")}
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

// closedPipe is an output whose reader has closed it.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// An output closed by its reader ends a run without an error and without a summary, but with the end of the recording.
func TestOutputClosed(t *testing.T) {
	var stderr bytes.Buffer
	ended := &endRecorder{}
	r := run(&fake.Source{Left: 500}, sink.NewJSONL(closedPipe{}), Options{Stderr: &stderr, Recorder: ended})
	if err := r.Trace(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
	if got, want := stderr.String(), "closetrace: output closed by its reader; stopping\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if ended.end == nil {
		t.Error("the recording has no end")
	}
}

// endRecorder keeps the end of a recording.
type endRecorder struct {
	DiscardRecorder
	end *record.End
}

func (e *endRecorder) End(end *record.End) error { e.end = end; return nil }

// A recording that fails does not end the run: the first failure is reported at once, and the end returns it.
func TestRecordingFails(t *testing.T) {
	var stderr bytes.Buffer
	path := filepath.Join(t.TempDir(), "a.rec")
	r, err := createRecording(RecordingOptions{Path: path}, events.Header{Attach: "fentry"}, &Options{Stderr: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	full := &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
	writes := 0
	for range 3 {
		if err := r.attempt(func() error { writes++; return full }); err != nil {
			t.Errorf("the run would end: %v", err)
		}
	}
	want := "the recording " + path + " is incomplete: no space left on device"
	if got := stderr.String(); got != "closetrace: "+want+"; tracing goes on\n" || writes != 1 {
		t.Errorf("%d writes, standard error %q", writes, got)
	}
	if err := r.End(&record.End{}); err == nil || err.Error() != want || hint.ExitCode(err) != 1 {
		t.Errorf("at the end: %v", err)
	}
}
