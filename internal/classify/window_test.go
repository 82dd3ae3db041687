package classify

import (
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// How long an event waits for a second one. The durations are literals, because they
// are what closetrace promises.
func TestWindows(t *testing.T) {
	const ms = time.Millisecond
	lingering := byStates(events.LingerOn, 0)
	lingering.LingerJiffies = 2 * hz
	over := events.Event{Kind: events.KindWaitOver, Sock: 1, After: events.FinWait2, MonoNS: uint64(40 * ms)}
	for name, tt := range map[string]struct {
		evs    []events.Event
		window time.Duration
	}{
		"a close waits for its RST": {[]events.Event{byStates(0, 0)}, 20 * ms},
		"a RST waits for the end of its socket": {[]events.Event{
			{Kind: events.KindReset, Sock: 3, Before: events.FinWait2, Flags: events.SentRST | orphan},
		}, 80 * ms},
		"an end waits for the reply or the call that caused it": {[]events.Event{
			{Kind: events.KindDone, Sock: 3, Before: events.Established, SockErr: econnreset},
		}, 100 * ms},
		"the end of a socket with an owner waits for its next call": {[]events.Event{
			{Kind: events.KindReply, Sock: 3, Before: events.Established, SockErr: econnreset, Flags: events.SentRST},
		}, 100 * ms},
		"a close waits for its SO_LINGER time":     {[]events.Event{lingering}, 2*time.Second + 250*ms},
		"a close that lingered waits for a RST":    {[]events.Event{lingering, over}, 40*ms + 20*ms},
		"a FIN waits for the time of --close-wait": {[]events.Event{finTo(0)}, 10 * time.Second},
	} {
		c, n := New(closeWaitHeader()), 0
		count := func(*events.Ending) { n++ }
		for _, ev := range tt.evs {
			c.Push(&ev, count)
		}
		if c.Advance(uint64(tt.window), count); n != 0 {
			t.Errorf("%s: reported before %s", name, tt.window)
		}
		if c.Advance(uint64(tt.window)+1, count); n != 1 {
			t.Errorf("%s: not reported after %s", name, tt.window)
		}
		if c.Flush(count); n != 1 {
			t.Errorf("%s: reported %d times", name, n)
		}
	}
}

// The two ends of one RST are at most a second apart.
func TestPeerWindow(t *testing.T) {
	for apart, joined := range map[time.Duration]bool{0: true, time.Second: true, time.Second + 1: false} {
		e := last(t, resetBy(0), gotRST(uint64(apart)))
		if e.Path != events.RecvRST || (e.Peer != nil) != joined {
			t.Errorf("%s apart: %s, peer %v", apart, e.Path, e.Peer)
		}
	}
}
