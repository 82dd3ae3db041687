package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/test/fake"
)

// A record that cannot be decoded is counted and reported once; tracing goes on.
func TestUndecodableRecords(t *testing.T) {
	var out, stderr bytes.Buffer
	var reported []error
	r := run(&fake.Source{Left: 3, BadFirst: true}, sink.NewJSONL(&out), Options{
		Limit: 3, Stderr: &stderr, ReportError: func(err error) { reported = append(reported, err) },
	})
	if err := r.Trace(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 3 {
		t.Errorf("%d endings", n)
	}
	if len(reported) != 1 || reported[0].Error() != "record of 3 bytes" || hint.Of(reported[0]) != "rebuild" {
		t.Errorf("reported %v", reported)
	}
	if want := "\n1 record not decoded\n"; !strings.Contains(stderr.String(), want) {
		t.Errorf("%q is not in:\n%s", want, &stderr)
	}
}

// onFirst calls a function at the first ending that is shown.
type onFirst struct{ do func() }

func (f *onFirst) Observe(_ *events.Ending, shown bool) {
	if shown && f.do != nil {
		f.do()
		f.do = nil
	}
}

// What the source held when the end came is still written.
func TestFlowDrains(t *testing.T) {
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	s := New(&fake.Source{Left: 500}, sink.NewJSONL(&out), Options{
		Observers: []Observer{&onFirst{cancel}}, Stderr: io.Discard,
	})
	losses, err := s.Flow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 500 {
		t.Errorf("%d endings", n)
	}
	if losses != (events.Losses{LostRecords: 2}) {
		t.Errorf("losses: %+v", losses)
	}
}

// What there is no time for is counted as lost.
func TestFlowCountsWhatItDiscards(t *testing.T) {
	var out, stderr bytes.Buffer
	interrupted := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	s := New(&fake.Source{Left: 500}, sink.NewJSONL(&out), Options{
		Observers:   []Observer{&onFirst{func() { cancel(); close(interrupted) }}},
		Interrupted: interrupted, Stderr: &stderr,
	})
	s.drainTimeout = -1
	losses, err := s.Flow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.Count(out.String(), "\n")
	if shown == 0 || shown == 500 || uint64(shown)+losses.LostRecords != 500+2 {
		t.Errorf("%d endings, losses: %+v", shown, losses)
	}
	want := fmt.Sprintf("closetrace: gave up draining the buffer after -1ns; %d records discarded\n", 500-shown)
	if stderr.String() != want {
		t.Errorf("got %q, want %q", &stderr, want)
	}
}

// Among what there is no time for, the losses of the source are passed on, and are no records that were discarded.
func TestFlowDiscardsNoLoss(t *testing.T) {
	var stderr bytes.Buffer
	kept := new(keptLosses)
	interrupted := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	s := New(&losing{Source: fake.Source{Left: 500}}, sink.NewJSONL(io.Discard), Options{
		Observers: []Observer{&onFirst{func() { cancel(); close(interrupted) }}},
		Recorder:  kept, Interrupted: interrupted, Stderr: &stderr,
	})
	s.drainTimeout = -1
	losses, err := s.Flow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var probes, records uint32
	for _, ev := range kept.events {
		probes, records = probes+ev.MissedProbes, records+ev.LostRecords
	}
	if probes != 3 || uint64(records) != losses.LostRecords {
		t.Errorf("recorded %d records lost and %d probes missed, losses: %+v", records, probes, losses)
	}
	if want := fmt.Sprintf("; %d records discarded\n", losses.LostRecords-2); !strings.HasSuffix(stderr.String(), want) {
		t.Errorf("got %q, want %q", &stderr, want)
	}
}

// losing is a source that has lost something before its last event.
type losing struct {
	fake.Source
	reported bool
}

func (l *losing) Read(ev *events.Event) error {
	if l.Left == 1 && !l.reported {
		l.reported = true
		*ev = events.Event{Kind: events.KindLoss, MonoNS: 1, DurationNS: 1, LostRecords: 2, MissedProbes: 3}
		return nil
	}
	return l.Source.Read(ev)
}

// keptLosses is a recorder of losses.
type keptLosses struct {
	DiscardRecorder
	events []events.Event
}

func (k *keptLosses) Write(ev *events.Event) error {
	if ev.Kind == events.KindLoss {
		k.events = append(k.events, *ev)
	}
	return nil
}

// A recording that cannot be written any more ends the run with an error.
func TestFullDiskEndsARecording(t *testing.T) {
	var out, stderr bytes.Buffer
	r := run(&fake.Source{Left: 500}, sink.NewJSONL(&out), Options{Recorder: &fullDisk{room: 3}, Stderr: &stderr})
	if err := r.Trace(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(stderr.String(), "\n3 endings in ") {
		t.Errorf("stderr:\n%s", &stderr)
	}
}

// fullDisk is a recorder with room for some events.
type fullDisk struct {
	DiscardRecorder
	room int
}

func (f *fullDisk) Write(*events.Event) error {
	if f.room--; f.room < 0 {
		return syscall.ENOSPC
	}
	return nil
}

// A line on the way of an ending: the filter decides what the sink gets, observers see all, and nothing is counted
// beyond the limit.
func TestEmit(t *testing.T) {
	var out bytes.Buffer
	seen := map[bool]int{}
	s := New(&fake.Source{}, sink.NewJSONL(&out), Options{Limit: 2, Observers: []Observer{countShown(seen)}})
	s.filtered = true
	s.options.Filter.Comms = []string{"nginx"}
	for _, comm := range []string{"nginx", "other", "nginx", "nginx", "other"} {
		s.emit(&events.Ending{Path: events.CloseFINActive, Actor: &events.Task{PID: 1, Comm: comm}})
	}
	s.writeHeld()
	if n := strings.Count(out.String(), "\n"); n != 2 || seen[true] != 2 || seen[false] != 1 || s.concluded != 5 {
		t.Errorf("%s lines, observed %v of %d", strconv.Itoa(n), seen, s.concluded)
	}
}

type countShown map[bool]int

func (c countShown) Observe(_ *events.Ending, shown bool) { c[shown]++ }
