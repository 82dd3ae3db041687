package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unicode"

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
	src := &fakeSource{left: 3, badFirst: true}
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
	src := &fakeSource{left: 500}
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

// What there is no time for is counted as lost.
func TestFlowCountsWhatItLeaves(t *testing.T) {
	var out, said bytes.Buffer
	ended := make(chan struct{})
	e := fakeSystem(0)
	e.stderr, e.unread, e.ended = &said, func() bool { return false }, ended
	src := &fakeSource{left: 500}
	s := newStream(e, src, sink.NewJSONL(&out), 0)
	s.drainTime = -1
	ctx, cancel := context.WithCancel(t.Context())
	s.taken = func(*events.Ending) { cancel(); close(ended); s.taken = nil } // with the first
	losses, err := s.flow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	told := strings.Count(out.String(), "\n")
	if told == 0 || told == 500 || uint64(told)+losses.LostRecords != 500+2 {
		t.Errorf("%d endings, losses: %+v", told, losses)
	}
	if want := "closetrace: there was more to read at the end than time for it; " + itoa(500-told) + " records are left out\n"; said.String() != want {
		t.Errorf("said %q", &said)
	}
}

// A record that cannot be written any more ends the run, and says so.
func TestFullDiskEndsARecording(t *testing.T) {
	var out, said bytes.Buffer
	e := fakeSystem(0)
	e.stdout, e.stderr, e.unread = &out, &said, func() bool { return false }
	s := newStream(e, &fakeSource{left: 500}, sink.NewJSONL(&out), 0)
	s.record = &fullDisk{room: 3}
	if err := trace(t.Context(), e, s, &audit{}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(said.String(), "\n3 endings in ") {
		t.Errorf("said:\n%s", &said)
	}
}

// fullDisk is a recorder with room for some events.
type fullDisk struct {
	forgetful
	room int
}

func (f *fullDisk) Write(*events.Event) error {
	if f.room--; f.room < 0 {
		return syscall.ENOSPC
	}
	return nil
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

// What somebody else chose is shown, and not obeyed.
func TestNothingReachesTheTerminalRaw(t *testing.T) {
	const evil = "\x1b]0;x\x07\r\xff\u202e\x9b"
	for _, args := range [][]string{
		{"--" + evil}, {"-" + evil}, {evil}, {"--netns", evil}, {"--netns", "/" + evil}, {"-P", evil},
		{"-p", evil}, {"--duration", evil}, {"-o", evil}, {"lab", evil}, {"--verbose=" + evil},
	} {
		var said strings.Builder
		e := fakeSystem(0)
		e.args, e.stdout, e.stderr = args, io.Discard, &said
		e.finder.inode = netnsInode
		if code := run(t.Context(), e); code != exitUsage {
			t.Errorf("%q: exit code %d", args, code)
		}
		checkSaid(t, said.String(), true)
	}
	var said strings.Builder
	logger(&env{stderr: &said}, true).With("from", evil).Warn(evil, "words", []string{evil}, "err", errors.New(evil))
	checkSaid(t, said.String(), false)
}

// A record may come from anybody.
func TestEvilRecord(t *testing.T) {
	const evil = `\u001b]0;x\u0007\r\n\u202e`
	path := filepath.Join(t.TempDir(), "\x1b[31m.rec")
	text := `{"schema_version":1,"kernel":"` + evil + `","attach":"` + evil + `","hooks":["` + evil + `"],"missing":["` + evil + `"],"hz":250,"wall_offset_ns":0}
{"kind":"close","mono_ns":1,"flags":"rst task-context file-closing under-lock","sock":1,"unread":5,"task":{"pid":1,"comm":"` + evil + `"},"owner":{"pid":2,"comm":"` + evil + `"},"syscall":"` + evil + `","kernel_reason":"` + evil + `","stack":["` + evil + `"],"before":"ESTABLISHED","after":"CLOSE"}
{"kind":"end","took_ns":1,"audit":{"moved":{"TcpOutRsts":5,"` + evil + `":1}}}
`
	for name, change := range map[string]string{
		"whole": "", "no audit": `"audit":{"impossible":"` + evil + `",`, "damaged": `"kind":"` + evil + `",`,
	} {
		old := map[string]string{"no audit": `"audit":{`, "damaged": `"kind":"end",`}[name]
		if err := os.WriteFile(path, []byte(strings.Replace(text, old, cmp.Or(change, old), 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, format := range []string{"table", "wide", "json"} {
			var out, said strings.Builder
			e := fakeSystem(0)
			e.args, e.stdout, e.stderr = []string{"replay", "-o", format, path}, &out, &said
			run(t.Context(), e)
			if !strings.Contains(out.String(), "5 ") || !strings.Contains(said.String(), "replay of") || !strings.Contains(said.String(), "audit: ") {
				t.Errorf("%s, said:\n%s", name, &said)
			}
			for _, r := range out.String() + said.String() {
				if r != '\n' && !unicode.IsPrint(r) {
					t.Fatalf("%s, -o %s: %U reaches the terminal:\n%q\n%q", name, format, r, &out, &said)
				}
			}
		}
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
