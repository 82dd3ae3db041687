package live

import (
	"os"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sink"
)

// What moved at the edges is counted apart, and a missing reading is noticed.
func TestCounterReadings(t *testing.T) {
	var n uint64
	read := func() (sink.Counters, error) {
		n += 10 + n // 10, 30, 70, 150
		return sink.Counters{"TcpOutRsts": n}, nil
	}
	h := events.Header{Attach: "tracepoint", Missing: []string{"tcp_done"}}
	c := &counters{read: read}
	for range 4 {
		c.take()
	}
	c.Finish(h, false)
	if c.Impossible != "" || c.Moved["TcpOutRsts"] != 140 || c.Edges["TcpOutRsts"] != 20+80 {
		t.Errorf("got %+v", c)
	}
	if !c.ByTracepoint || len(c.Missing) != 1 {
		t.Errorf("the header is not used: %+v", c.Audit)
	}
	if c.Finish(h, true); c.Impossible != "--count stopped the run before all events were read" {
		t.Errorf("with --count: %q", c.Impossible)
	}
	c = &counters{read: read}
	c.take()
	if c.Finish(h, false); c.Impossible != "tracing did not end cleanly" {
		t.Errorf("one reading: %q", c.Impossible)
	}
	c = &counters{read: func() (sink.Counters, error) { return nil, os.ErrPermission }}
	c.take()
	if c.Finish(h, false); !strings.Contains(c.Impossible, os.ErrPermission.Error()) {
		t.Errorf("unreadable: %q", c.Impossible)
	}
}
