package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/test/fake"
)

// clocked is a source that each second is idle and then has a close. Its clock has another offset each time.
type clocked struct {
	fake.Source
	offsets []time.Duration
	now     uint64
	idle    bool
	done    func()
}

func (c *clocked) Header() events.Header {
	h := c.Source.Header()
	h.WallOffsetNS = int64(c.offsets[0])
	return h
}

func (c *clocked) IdleNS() uint64    { return c.now }
func (c *clocked) WallOffset() int64 { return int64(c.offsets[0]) }

func (c *clocked) Read(ev *events.Event) error {
	c.idle = !c.idle
	if c.idle {
		c.now += uint64(time.Second)
		return events.ErrIdle
	}
	c.Left = 1
	err := c.Source.Read(ev)
	ev.MonoNS = c.now
	if len(c.offsets) == 1 {
		c.done()
	} else {
		c.offsets = c.offsets[1:]
	}
	return err
}

// The times of endings follow a clock that is set, and not one that is read a little differently.
func TestTimesFollowTheClock(t *testing.T) {
	var out, stderr bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	const noise = 90 * time.Millisecond
	src := &clocked{offsets: []time.Duration{0, noise, time.Hour, time.Hour + noise, time.Minute}, done: cancel}
	s := New(src, sink.NewJSONL(&out), Options{Stderr: &stderr})
	if _, err := s.Flow(ctx); err != nil {
		t.Fatal(err)
	}
	var got []time.Duration // offsets
	for line := range bytes.Lines(out.Bytes()) {
		var e struct {
			Time   time.Time
			MonoNS time.Duration `json:"mono_ns"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Time.Sub(time.Unix(0, 0))-e.MonoNS)
	}
	if want := []time.Duration{0, 0, time.Hour, time.Hour, time.Minute}; !slices.Equal(got, want) {
		t.Errorf("offsets %v, want %v", got, want)
	}
	const because = ", because it was set or the machine was suspended; times from here on follow it\n"
	const want = "closetrace: the clock moved by +1h0m0s" + because + "closetrace: the clock moved by -59m0s" + because
	if stderr.String() != want {
		t.Errorf("got:\n%s", &stderr)
	}
}
