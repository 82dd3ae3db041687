package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/rawevent"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
)

const ms = uint64(time.Millisecond)

// passed collects the times, in milliseconds, of what an order passes on.
type passed []uint64

func (p *passed) add(e *events.Ending) { *p = append(*p, e.MonoNS/ms) }

func TestOrderMerges(t *testing.T) {
	var o order
	var got passed
	for _, at := range []uint64{10, 30, 20, 30, 5} {
		o.add(&events.Ending{MonoNS: at * ms}, got.add)
	}
	for _, step := range []struct {
		until uint64
		want  passed
	}{
		{29, nil}, {30, passed{5}}, {45, passed{5, 10, 20}}, {54, passed{5, 10, 20}},
	} {
		o.release(step.until*ms, got.add)
		if !slices.Equal(got, step.want) {
			t.Errorf("until %d ms: %v, want %v", step.until, got, step.want)
		}
	}
	o.add(&events.Ending{MonoNS: 7 * ms}, got.add) // too late
	if !o.release(54*ms, got.add) || o.release(54*ms, got.add) {
		t.Error("release does not say whether it passed on anything")
	}
	o.releaseAll(got.add)
	if want := (passed{5, 10, 20, 7, 30, 30}); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Endings of the same time keep the order in which they were concluded.
func TestOrderIsStable(t *testing.T) {
	var o order
	var got []events.Path
	pass := func(e *events.Ending) { got = append(got, e.Path) }
	for _, path := range []events.Path{"a", "b", "c"} {
		o.add(&events.Ending{MonoNS: 1, Path: path}, pass)
	}
	o.releaseAll(pass)
	if want := []events.Path{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// However many come at once, no more than maxHeld are held, and the oldest ones go.
func TestOrderIsBounded(t *testing.T) {
	var o order
	var got passed
	const all = 10 * maxHeld
	for n := range uint64(all) {
		e := o.spare()
		*e = events.Ending{MonoNS: n * ms}
		o.add(e, got.add)
		if len(o.held)-o.next > maxHeld || len(o.held) > 3*maxHeld || len(o.free) > maxHeld {
			t.Fatalf("%d are held, in %d places; %d are free", len(o.held)-o.next, len(o.held), len(o.free))
		}
	}
	if len(got) != all-maxHeld {
		t.Errorf("%d were passed on", len(got))
	}
	o.releaseAll(got.add)
	if len(got) != all || !slices.IsSorted(got) {
		t.Errorf("%d of %d, sorted: %v", len(got), all, slices.IsSorted(got))
	}
}

// burst is a source of closes by tracepoints. Half of them may be followed by a RST and wait for it, so that they are
// concluded 20 ms after the others.
type burst struct {
	events.ReportsAll
	left  int
	now   uint64
	noise *rand.Rand
	ended bool
}

func (b *burst) Read(ev *events.Event) error {
	if b.left == 0 {
		b.ended = true
		return events.ErrIdle
	}
	if b.noise.IntN(500) == 0 {
		b.now += 50 * ms
		return events.ErrIdle
	}
	b.left--
	b.now += 20_000
	*ev = events.Event{
		Kind: events.KindClose, MonoNS: b.now - uint64(b.noise.IntN(2_000_000)), Sock: b.now,
		Flags:  events.TaskContext | events.FileClosing | events.UnderLock | events.ReturnUnseen,
		Before: events.Established, Syscall: "close", Task: events.Task{PID: 1, TID: 1, Comm: "app"},
	}
	if b.left%2 == 0 {
		ev.Flags |= events.SentRST | events.LingerOn
		ev.After = events.Close
	} else {
		ev.Flags |= events.SentFIN
		ev.After = events.FinWait1
	}
	return nil
}

func (b *burst) Header() events.Header {
	return events.Header{Schema: events.SchemaVersion, HZ: 250, Attach: "tracepoint", Kernel: "6.1"}
}
func (b *burst) IdleNS() uint64        { return b.now }
func (b *burst) WallOffset() int64     { return 0 }
func (b *burst) PollSoon()             {}
func (b *burst) PollLater()            {}
func (b *burst) Losses() events.Losses { return events.Losses{} }
func (b *burst) Detach() error         { return nil }
func (b *burst) Close() error          { return nil }

// untilEnd ends a run when its source has nothing more.
type untilEnd struct {
	*burst
	stop func()
}

func (u untilEnd) Read(ev *events.Event) error {
	err := u.burst.Read(ev)
	if u.ended {
		u.stop()
	}
	return err
}

// A burst of which half is concluded 20 ms after the rest is written in order of time, and replayed in the same.
func TestBurstIsInOrder(t *testing.T) {
	const closes = 100_000
	path := filepath.Join(t.TempDir(), "burst.rec")
	source := &burst{left: closes, now: 1e12, noise: rand.New(rand.NewPCG(1, 2))}
	recorder, err := createRecording(RecordingOptions{Path: path}, source.Header(), &Options{Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	var concluded concludedOrder
	var live bytes.Buffer
	ctx, stop := context.WithCancel(t.Context())
	s := New(untilEnd{source, stop}, sink.NewJSONL(&live), Options{
		Recorder: recorder, Observers: []Observer{&concluded}, Stderr: io.Discard,
	})
	if _, err := s.Flow(ctx); err != nil {
		t.Fatal(err)
	}
	if err := recorder.End(&record.End{}); err != nil {
		t.Fatal(err)
	}
	if lines, inversions := inversionsIn(t, live.Bytes()); lines != closes || inversions != 0 {
		t.Errorf("%d of %d lines come after a later one", inversions, lines)
	}
	if concluded.inversions < closes/10 {
		t.Errorf("only %d were concluded out of order: the burst shows nothing", concluded.inversions)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	in, err := record.Read(file, rawevent.Recorded)
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	err = Replay(t.Context(), in, sink.NewJSONL(&again), ReplayOptions{Options: Options{Stderr: io.Discard}})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(live.Bytes(), again.Bytes()) {
		t.Error("the replay has another order")
	}
}

// concludedOrder counts how many endings the classifier emits after later ones.
type concludedOrder struct {
	newest     uint64
	inversions int
}

func (c *concludedOrder) Observe(e *events.Ending, _ bool) {
	if e.MonoNS < c.newest {
		c.inversions++
	}
	c.newest = max(c.newest, e.MonoNS)
}

func inversionsIn(t *testing.T, text []byte) (lines, inversions int) {
	t.Helper()
	var newest uint64
	for d := json.NewDecoder(bytes.NewReader(text)); ; lines++ {
		var line struct {
			MonoNS uint64 `json:"mono_ns"`
		}
		if err := d.Decode(&line); errors.Is(err, io.EOF) {
			return lines, inversions
		} else if err != nil {
			t.Fatal(err)
		}
		if line.MonoNS < newest {
			inversions++
		}
		newest = max(newest, line.MonoNS)
	}
}

// failing is a source that fails after a close.
type failing struct{ burst }

func (f *failing) Read(ev *events.Event) error {
	if f.left == 0 {
		return errors.New("broken")
	}
	return f.burst.Read(ev)
}

// What was concluded before the source failed is written.
func TestHeldIsWrittenIfTheSourceFails(t *testing.T) {
	var out bytes.Buffer
	source := &failing{burst{left: 1, now: 1e12, noise: rand.New(rand.NewPCG(3, 4))}}
	_, err := New(source, sink.NewJSONL(&out), Options{Stderr: io.Discard}).Flow(t.Context())
	if err == nil || err.Error() != "broken" {
		t.Errorf("got %v", err)
	}
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != 1 {
		t.Errorf("%d lines", n)
	}
}
