package serve

import (
	"sync"

	"github.com/closetrace/closetrace/internal/events"
)

// last has the last abnormal endings as JSON, a bounded number of them.
type last struct {
	mu      sync.Mutex
	encoder *events.Encoder
	ring    [][]byte
	next    int // place of the next ending
	seen    uint64
}

func newLast(n int) *last { return &last{encoder: events.NewEncoder(), ring: make([][]byte, 0, n)} }

// begin says which host the endings are of.
func (l *last) begin(h events.Header) { l.encoder.Begin(h) }

// add keeps an ending, instead of the oldest one if there are enough.
func (l *last) add(e *events.Ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen++
	switch {
	case cap(l.ring) == 0:
		return
	case len(l.ring) < cap(l.ring):
		l.ring = append(l.ring, l.encoder.Append(nil, e))
		return
	}
	l.ring[l.next] = l.encoder.Append(l.ring[l.next][:0], e)
	l.next = (l.next + 1) % len(l.ring)
}

// limit changes how many endings are kept, of which the newest remain.
func (l *last) limit(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n == cap(l.ring) {
		return
	}
	kept := make([][]byte, 0, n)
	for i := min(n, len(l.ring)); i > 0; i-- {
		kept = append(kept, l.newest(i-1))
	}
	l.ring, l.next = kept, 0
}

// newest returns an ending by its age: 0 is the newest.
func (l *last) newest(age int) []byte {
	n := len(l.ring)
	return l.ring[(l.next+n-1-age)%n]
}

// appendJSON appends an object with at most n endings, the newest first.
func (l *last) appendJSON(b []byte, n int) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	b = append(b, `{"schema_version":`...)
	b = events.AppendNumber(b, events.SchemaVersion)
	b = append(b, `,"seen":`...)
	b = events.AppendNumber(b, l.seen)
	b = append(b, `,"endings":[`...)
	for age := range min(n, len(l.ring)) {
		if age > 0 {
			b = append(b, ',')
		}
		b = append(append(b, '\n'), l.newest(age)...)
	}
	return append(b, "]}\n"...)
}

// endings is the sink of the trace: it gets abnormal endings, in order.
type endings struct {
	last  *last
	pulse *pulse
}

// Begin says which host the endings are of.
func (s *endings) Begin(h events.Header) { s.last.begin(h) }

// Write keeps an ending.
func (s *endings) Write(e *events.Ending) error {
	s.last.add(e)
	return nil
}

// Flush is called several times per second while there are no events.
func (s *endings) Flush() error {
	s.pulse.beat()
	return nil
}

// Close does nothing.
func (s *endings) Close() error { return nil }
