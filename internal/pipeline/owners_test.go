package pipeline

import (
	"bytes"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/rawevent"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
)

// received returns a FIN of the peer at a time.
func received(at, sock uint64) events.Event {
	ev := closing(at, sock, false)
	ev.Kind, ev.Flags, ev.After, ev.Task = events.KindPeerFIN, 0, events.CloseWait, events.Task{}
	return ev
}

// finsAndAnswers returns FINs that are answered, but for the one of socket 999.
func finsAndAnswers() (all []events.Event) {
	for n := range uint64(100) {
		answer := closing(second*(100+n)+2, n+1, false)
		answer.Before, answer.After = events.CloseWait, events.LastAck
		all = append(all, received(second*(100+n)+1, n+1), answer)
		if n == 50 {
			fin := received(second*(100+n)+3, 999)
			fin.Remote = netip.MustParseAddrPort("10.0.0.9:999")
			all = append(all, fin)
		}
	}
	return all
}

// A recording gets the owner of an event that is reported when it is looked up, and none is looked up for other events.
// A replay reports the same, also of a converted recording.
func TestOwnersAreRecordedWhenTheyAreFound(t *testing.T) {
	for name, trigger := range map[string]Trigger{
		"a.rec": {}, "a.rec.zst": {}, "a.jsonl": {},
		"b.rec": {Endings: []filter.Pattern{"recv.fin"}, Before: time.Hour, After: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			source := &listed{all: finsAndAnswers()}
			var live bytes.Buffer
			var searched []uint64
			o := Options{Stderr: io.Discard, Resolvers: Resolvers{Owner: func(ev *events.Event) {
				searched = append(searched, ev.Sock)
				ev.Owner = &events.Task{PID: 9, Comm: "owner\xff"}
			}}}
			if err := o.RecordTo(RecordingOptions{Path: path, Trigger: trigger}, source.Header()); err != nil {
				t.Fatal(err)
			}
			s := New(source, sink.NewJSONL(&live), o)
			if err := s.drain(); err != nil {
				t.Fatal(err)
			}
			if err := s.options.Recorder.End(&record.End{}); err != nil {
				t.Fatal(err)
			}
			if len(searched) != 1 || searched[0] != 999 || strings.Count(live.String(), `"owner_by":"proc"`) != 1 {
				t.Errorf("searched for %v; printed\n%s", searched, live.String())
			}
			if again := replayed(t, openRecorded(t, path)); again != live.String() {
				t.Errorf("printed\n%s\nreplayed\n%s", live.String(), again)
			}
			var converted bytes.Buffer
			if err := record.Convert(t.Context(), openRecorded(t, path), &converted); err != nil {
				t.Fatal(err)
			}
			in, err := record.NewReader(&converted)
			if err != nil {
				t.Fatal(err)
			}
			if again := replayed(t, in); again != live.String() {
				t.Errorf("printed\n%s\nconverted and replayed\n%s", live.String(), again)
			}
		})
	}
}

func openRecorded(t *testing.T, path string) *record.Reader {
	t.Helper()
	file, err := record.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	in, err := record.Read(file, rawevent.Recorded)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// replayed returns the JSON of a replay.
func replayed(t *testing.T, in *record.Reader) string {
	t.Helper()
	var out bytes.Buffer
	err := Replay(t.Context(), in, sink.NewJSONL(&out), ReplayOptions{Options: Options{Stderr: io.Discard}})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}
