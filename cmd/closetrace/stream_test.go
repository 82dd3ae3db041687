package main

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
)

func itoa(n int) string { return strconv.Itoa(n) }

// A record that cannot be decoded is counted and told of once; tracing goes on.
func TestUndecodableRecords(t *testing.T) {
	var out, said bytes.Buffer
	e := fakeSystem(3)
	e.stdout, e.stderr, e.unread = &out, &said, func() bool { return false }
	src := &fakeSource{left: 3, clock: e.clock, badFirst: true}
	s := newStream(e, src, sink.NewJSONL(&out), 3)
	if err := trace(t.Context(), e, s, &audit{}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 3 {
		t.Errorf("%d endings", n)
	}
	for _, want := range []string{"closetrace: record of 3 bytes\nhint: rebuild\n", "\n1 record not decoded\n"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &said)
		}
	}
}

// What the source held when the end came is still written.
func TestFlowDrains(t *testing.T) {
	var out bytes.Buffer
	e := fakeSystem(0)
	e.stderr, e.unread = &bytes.Buffer{}, func() bool { return false }
	src := &fakeSource{left: 500, clock: e.clock}
	s := newStream(e, src, sink.NewJSONL(&out), 0)
	ctx, cancel := context.WithCancel(t.Context())
	s.taken = func(*events.Ending) { cancel() } // with the first
	losses, err := s.flow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 500 {
		t.Errorf("%d endings", n)
	}
	if losses != (probe.Losses{LostRecords: 2}) {
		t.Errorf("losses: %+v", losses)
	}
}

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{
		exitOK:          nil,
		exitFailed:      errors.New("broken"),
		exitUsage:       &usageError{"no", "yes"},
		exitPrivilege:   &kernel.Error{Kind: kernel.ErrPrivilege},
		exitUnsupported: &kernel.Error{Kind: kernel.ErrUnsupported},
	} {
		if got := finish(&bytes.Buffer{}, err); got != want {
			t.Errorf("%v: exit code %d, want %d", err, got, want)
		}
		if want != exitOK && !strings.Contains(exitCodes, "\n  "+itoa(want)+"  ") {
			t.Errorf("exit code %d is not in the help", want)
		}
	}
}

func TestReport(t *testing.T) {
	var said strings.Builder
	report(&said, &kernel.Error{What: "first\nsecond", Next: "do\nthis"})
	if want := "closetrace: first; second\nhint: do; this\n"; said.String() != want {
		t.Errorf("got %q", said.String())
	}
}

func TestVoice(t *testing.T) {
	var said strings.Builder
	e := &env{stderr: &said}
	quiet, verbose := logger(e, false), logger(e, true).With("mode", "kprobe")
	quiet.Debug("not said")
	quiet.Warn("not seen on this kernel", "missing", "tcp_done", "unseen", "resets\nreceived")
	verbose.Debug("attached", "hooks", []string{"a", "b"})
	const want = "closetrace: not seen on this kernel; missing: tcp_done; unseen: resets; received\n" +
		"closetrace: attached; mode: kprobe; hooks: a, b\n"
	if said.String() != want {
		t.Errorf("got %q", said.String())
	}
}
