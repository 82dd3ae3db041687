package pipeline

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/rawevent"
	"github.com/closetrace/closetrace/internal/record"
)

// closing returns a close of a socket at a time: ordinary, or a RST for unread data.
func closing(at, sock uint64, rst bool) events.Event {
	ev := events.Event{
		Kind: events.KindClose, MonoNS: at, Sock: sock, Flags: events.SentFIN | events.TaskContext | events.UnderLock,
		Local:  netip.MustParseAddrPort("10.0.0.5:443"),
		Remote: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), uint16(sock)),
		Task:   events.Task{PID: 1, Comm: "a"}, Before: events.Established, After: events.FinWait1,
	}
	if rst {
		ev.Flags, ev.After, ev.UnreadBytes = ev.Flags&^events.SentFIN|events.SentRST, events.Close, 10
	}
	return ev
}

// listed is a source of events.
type listed struct {
	finMix
	all []events.Event
}

func (l *listed) Read(ev *events.Event) error {
	if len(l.all) == 0 {
		return events.ErrIdle
	}
	*ev, l.all = l.all[0], l.all[1:]
	return nil
}

func (l *listed) Header() events.Header {
	return events.Header{Schema: events.SchemaVersion, Attach: "fentry", HZ: 250, CloseWaitNS: 10 * second}
}

// triggeredBy records events with a trigger, and returns what the recording has, by time in seconds and kind, the JSON
// of its replay, and what was printed.
func triggeredBy(t *testing.T, all []events.Event, trigger Trigger) (recorded []string, again, stderr string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.jsonl")
	var printed bytes.Buffer
	o := Options{Stderr: &printed}
	recordAll(t, all, &o, RecordingOptions{Path: path, Trigger: trigger, Only: true})
	in := openRecorded(t, path)
	for ev, err := range in.Events() {
		if err != nil {
			t.Fatal(err)
		}
		recorded = append(recorded, strings.TrimSuffix(time.Duration(ev.MonoNS).String(), "0s")+" "+ev.Kind.String())
	}
	return recorded, replayed(t, openRecorded(t, path)), printed.String()
}

// Only the time around an ending of the trigger is recorded, and what was left out is a loss.
func TestTrigger(t *testing.T) {
	var all []events.Event
	for at := range uint64(200) {
		all = append(all, closing((at+1)*second, at+1, at+1 == 100))
	}
	recorded, replayed, stderr := triggeredBy(t, all, Trigger{
		Endings: []filter.Pattern{"rst"}, Before: 3 * time.Second, After: 2 * time.Second,
	})
	want := []string{
		"1m36s loss", "1m37s close", "1m38s close", "1m39s close", "1m4 close", "1m41s close", "1m42s close", "3m2 loss",
	}
	if !slices.Equal(recorded, want) {
		t.Errorf("recorded %q, want %q", recorded, want)
	}
	if strings.Count(replayed, `"path":"close.fin.active"`) != 5 ||
		strings.Count(replayed, `"path":"close.rst.unread"`) != 1 {
		t.Errorf("replayed\n%s", replayed)
	}
	if stderr != "trigger: 1 ending; 6 events recorded, 194 left out\n" {
		t.Errorf("printed %q", stderr)
	}
}

// The answer to a FIN that is recorded is recorded as well, whenever it comes: the FIN does not seem to be unanswered.
func TestTriggerFollowsFINs(t *testing.T) {
	fin := closing(101*second, 7, false)
	fin.Kind, fin.Flags, fin.After = events.KindPeerFIN, 0, events.CloseWait
	unanswered := fin
	unanswered.Sock, unanswered.Remote = 8, netip.MustParseAddrPort("10.0.0.9:8")
	answer := closing(105*second, 7, false)
	answer.Before, answer.After = events.CloseWait, events.LastAck
	all := []events.Event{
		closing(100*second, 1, true), fin, unanswered, closing(104*second, 2, false), answer, closing(300*second, 3, false),
	}
	recorded, replayed, _ := triggeredBy(t, all, Trigger{
		Endings: []filter.Pattern{"close.rst"}, Before: time.Second, After: 2 * time.Second,
	})
	want := []string{
		"1m4 close", "1m41s peer-fin", "1m41s peer-fin", "1m44s loss", "1m45s close", "5m loss",
	}
	if !slices.Equal(recorded, want) {
		t.Errorf("recorded %q, want %q", recorded, want)
	}
	if strings.Count(replayed, `"path":"recv.fin"`) != 1 || strings.Count(replayed, `"path":"close.fin.passive"`) != 1 ||
		!strings.Contains(replayed, "peer closed first, 4.0 s earlier") {
		t.Errorf("replayed\n%s", replayed)
	}
}

// FINs that this side has answered before do not use up what is remembered for those that it will answer.
func TestTriggerForgetsAnsweredFINs(t *testing.T) {
	all := []events.Event{closing(100*second, 1, true)}
	const answered = 5000
	for n := range uint64(answered) {
		fin := received(100*second+n+1, n+10)
		fin.Before, fin.After = events.FinWait2, events.TimeWait
		all = append(all, fin)
	}
	answer := closing(105*second, 7, false)
	answer.Before, answer.After = events.CloseWait, events.LastAck
	all = append(all, received(101*second, 7), closing(104*second, 2, false), answer)
	recorded, _, _ := triggeredBy(t, all, Trigger{
		Endings: []filter.Pattern{"close.rst"}, Before: time.Second, After: 2 * time.Second,
	})
	want := []string{"1m41s peer-fin", "1m44s loss", "1m45s close"}
	if n := len(recorded); n != 1+answered+len(want) || !slices.Equal(recorded[n-len(want):], want) {
		t.Errorf("%d recorded, the last %q, want %q", n, recorded[max(0, n-len(want)):], want)
	}
}

// The memory for what is held is bounded, and what it leaves out is counted.
func TestTriggerIsBounded(t *testing.T) {
	const more = 100
	var all []events.Event
	for n := range uint64(maxUntriggered + more) {
		all = append(all, closing(100*second+n, n+1, false))
	}
	all = append(all, closing(101*second, 1<<20, true))
	recorded, _, stderr := triggeredBy(t, all, Trigger{Endings: []filter.Pattern{"rst"}, Before: 10 * time.Second})
	if len(recorded) != 1+maxUntriggered || !strings.HasSuffix(recorded[0], " loss") {
		t.Errorf("%d recorded, first %q", len(recorded), recorded[0])
	}
	want := "trigger: 1 ending; 32,768 events recorded, 101 left out, " +
		"of them 101 before the time of the trigger was over: at most 32,768 are held\n"
	if stderr != want {
		t.Errorf("printed %q, want %q", stderr, want)
	}
}

// recordAll records events, and the end of the recording.
func recordAll(t *testing.T, all []events.Event, o *Options, to RecordingOptions) {
	t.Helper()
	source := &listed{all: all}
	if err := o.RecordTo(to, source.Header()); err != nil {
		t.Fatal(err)
	}
	s := New(source, DiscardSink{}, *o)
	if err := s.drain(); err != nil {
		t.Fatal(err)
	}
	if err := s.options.Recorder.End(&record.End{}); err != nil {
		t.Fatal(err)
	}
}

// What the trigger left out is a gap in a ring of files, but not lost. What was lost is.
func TestTriggerLosesNothing(t *testing.T) {
	dir := t.TempDir()
	var all []events.Event
	for n := range uint64(2000) {
		at := (n + 1) * second
		if n >= 1990 && n%4 < 3 {
			all = append(all, events.Event{
				Kind: events.KindLoss, MonoNS: at, DurationNS: 1, LostRecords: 5, MissedProbes: 2, RepliesLeftOut: 3,
			})
		}
		all = append(all, closing(at, n+1, n%4 == 0))
	}
	o := Options{Stderr: io.Discard}
	recordAll(t, all, &o, RecordingOptions{
		Path: filepath.Join(dir, "a.rec"), Rotation: record.Rotation{Size: 64 << 10, Keep: 2}, Only: true,
		Trigger: Trigger{Endings: []filter.Pattern{"rst"}, Before: 1, After: 1},
	})
	names, err := filepath.Glob(filepath.Join(dir, "a-*.rec"))
	if err != nil || len(names) != 2 || strings.HasSuffix(names[0], "a-000000.rec") {
		t.Fatalf("files %v, %v", names, err)
	}
	var files []*os.File
	for _, name := range names {
		file, err := record.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		files = append(files, file)
	}
	in, err := record.Join(files, rawevent.Recorded)
	if err != nil {
		t.Fatal(err)
	}
	gaps, losses := 0, 0
	for ev, err := range in.Events() {
		switch {
		case err != nil:
			t.Fatal(err)
		case ev.Kind == events.KindLoss && ev.LeftOut > 0 && ev.LostRecords >= ev.LeftOut:
			gaps++
		case ev.Kind == events.KindLoss:
			losses++
		}
	}
	const happened = 7 // losses
	if e := in.End; e.LostRecords != 5*happened || e.MissedProbes != 2*happened || e.Suppressed != 3*happened ||
		gaps < 50 || losses == 0 || losses >= happened {
		t.Errorf("end %+v, %d gaps, %d losses", e, gaps, losses)
	}
}
