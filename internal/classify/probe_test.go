package classify

import (
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// A RST without a byte before it is a probe for the side that accepted, and loses nothing for a side that connected and
// sends it. For the side that connected and receives it, it is the answer to an attempt.
func TestProbes(t *testing.T) {
	const words = "no byte was ever sent or received"
	received := func(change func(*events.Event)) events.Event {
		ev := gotRST(9)
		ev.FirstSent, ev.SndNxt, ev.FirstReceived, ev.IdleReceivedJiffies, ev.IdleSentJiffies = 1000, 1000, 2001, 12, 12
		change(&ev)
		return ev
	}
	sent := func(change func(*events.Event)) events.Event {
		ev := resetBy(5)
		ev.Flags, ev.UnreadBytes = ev.Flags|events.LingerOn|events.UnderLock, 0
		ev.FirstSent, ev.SndNxt, ev.FirstReceived, ev.IdleReceivedJiffies = 1000, 1001, 2001, 12
		change(&ev)
		return ev
	}
	for name, tt := range map[string]struct {
		ev   events.Event
		want bool
	}{
		"accepted, RST received":          {received(func(*events.Event) {}), true},
		"connected, RST received":         {received(func(ev *events.Event) { ev.SndNxt = 1001 }), false},
		"after a byte received":           {received(func(ev *events.Event) { ev.BytesReceived = 1 }), false},
		"after a byte sent":               {received(func(ev *events.Event) { ev.BytesSent, ev.SndNxt = 1, 1001 }), false},
		"with a byte to send":             {received(func(ev *events.Event) { ev.UnsentBytes = 1 }), false},
		"idle for longer":                 {received(func(ev *events.Event) { ev.IdleReceivedJiffies = 251 }), false},
		"an old recording":                {received(func(ev *events.Event) { ev.FirstSent, ev.SndNxt = 0, 0 }), false},
		"after the peer's FIN":            {received(func(ev *events.Event) { ev.Before, ev.SockErr = events.CloseWait, epipe }), false},
		"connected, RST sent":             {sent(func(*events.Event) {}), true},
		"accepted, RST sent":              {sent(func(ev *events.Event) { ev.SndNxt = 1000 }), false},
		"connected, RST sent after bytes": {sent(func(ev *events.Event) { ev.BytesReceived = 3 }), false},
		"connected, unread":               {sent(func(ev *events.Event) { ev.UnreadBytes, ev.BytesReceived = 3, 3 }), false},
	} {
		e := last(t, tt.ev)
		if e.Harmless != tt.want || e.IsAbnormal() == tt.want || strings.Contains(e.Cause, words) != tt.want {
			t.Errorf("%s: harmless %v, abnormal %v, %q", name, e.Harmless, e.IsAbnormal(), e.Cause)
		}
	}
}
