package pipeline

import (
	"bytes"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/test/fake"
)

// run is a run on a made-up source, without counters.
func run(src Source, out Sink, o Options) *Run { return NewRun(src, out, o, new(noCounters)) }

// noCounters are counters that are not read.
type noCounters struct{ sink.Audit }

func (n *noCounters) Compared() *sink.Audit      { return &n.Audit }
func (n *noCounters) Finish(events.Header, bool) {}

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

// What a FIFO had is gone with its reader: there is nothing to replay.
func TestRecordingLosesItsReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.rec")
	r, err := createRecording(RecordingOptions{Path: path}, events.Header{Attach: "fentry"}, &Options{Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	_ = r.attempt(func() error { return &fs.PathError{Op: "write", Path: path, Err: syscall.EPIPE} })
	err = r.End(&record.End{})
	if err == nil || err.Error() != "the recording "+path+" is incomplete: its reader closed it" ||
		hint.Of(err) != "end closetrace before the reader" {
		t.Errorf("%v, hint %q", err, hint.Of(err))
	}
}

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
	run := &Run{Stream: &Stream{options: Options{recording: r}}}
	if failed, recorded := run.RecordingFailed(); !failed || !recorded {
		t.Errorf("failed %t, recorded %t", failed, recorded)
	}
	if err := r.End(&record.End{}); err == nil || err.Error() != want || hint.ExitCode(err) != 1 {
		t.Errorf("at the end: %v", err)
	}
}
