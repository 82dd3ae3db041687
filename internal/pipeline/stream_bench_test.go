package pipeline

import (
	"io"
	"net/netip"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/sink"
)

// sinks are those of a live run, by the value of --output.
var sinks = map[string]func() Sink{
	"json":  func() Sink { return sink.NewJSONL(io.Discard) },
	"table": func() Sink { return sink.NewTable(io.Discard, sink.TableOptions{}) },
}

// warmStream returns a stream whose caches are full.
func warmStream(t testing.TB, output string, o Options) *Stream {
	t.Helper()
	s := New(&finMix{}, sinks[output](), o)
	readEvents(t, s, 150_000)
	return s
}

func readEvents(t testing.TB, s *Stream, events int) {
	t.Helper()
	for range events {
		if err := s.next(); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkEvent measures the way of an event from what was decoded to a line, for both ends of the connections of
// the FIN mix.
func BenchmarkEvent(b *testing.B) {
	for output := range sinks {
		b.Run(output, func(b *testing.B) {
			s := warmStream(b, output, Options{
				Resolvers: Resolvers{Owner: func(*events.Event) {}}, // each FIN is answered
				Observers: []Observer{summaryObserver{new(sink.Summary)}},
			})
			b.ReportAllocs()
			for b.Loop() {
				if err := s.next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A common event needs no allocation on its way to a line, through a filter and with the observers of a live run:
// collecting garbage costs more than the rest.
func TestEventsNeedNoAllocation(t *testing.T) {
	for output := range sinks {
		s := warmStream(t, output, Options{
			Filter:    filter.Endings{Nets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, // matches all
			Observers: []Observer{summaryObserver{new(sink.Summary)}, auditObserver{new(sink.Audit)}},
		})
		const events = 10_000
		if n := testing.AllocsPerRun(1, func() { readEvents(t, s, events) }); n > events/100 {
			t.Errorf("%s: %.0f allocations for %d events", output, n, events)
		}
		if read := s.source.(*finMix).n; s.shown < read*6/10 {
			t.Errorf("%s: %d endings of %d events", output, s.shown, read)
		}
	}
}

// finMix makes up connections on one host that the client closes first. The FIN in FIN_WAIT2 has no record.
type finMix struct {
	events.ReportsAll
	n uint64
}

func (m *finMix) Read(ev *events.Event) error {
	connection := m.n / 3
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(32768+connection%28000))
	server := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 7777)
	*ev = events.Event{
		MonoNS: m.n * 20_000, Sock: 0xffff888000000000 + connection%64*4096, Netns: 4026531840, CgroupID: 1,
		Local: client, Remote: server, BytesReceived: 1000, BytesSent: 200, SRTTUS: 20 + uint32(m.n%16),
		FirstSent: uint32(connection * 250_000_019), FirstReceived: uint32(connection * 350_000_003),
	}
	ev.SndNxt = ev.FirstSent + 200
	step := m.n % 3
	if step == 1 || step == 2 {
		ev.Local, ev.Remote, ev.Sock = server, client, ev.Sock+2048
	}
	switch step {
	case 0, 2:
		ev.Kind, ev.Flags = events.KindClose, events.SentFIN|events.TaskContext|events.UnderLock|events.FileClosing
		ev.Task, ev.Syscall = events.Task{PID: 4211, TID: 4211, UID: 33, Comm: "server"}, "close"
		ev.Before, ev.After, ev.DurationNS = events.Established, events.FinWait1, 5210
		if step == 2 {
			ev.Before, ev.After, ev.Flags = events.CloseWait, events.LastAck, ev.Flags|events.PeerFIN
		}
		ev.AtReturn = ev.After
	case 1:
		ev.Kind, ev.Before, ev.After, ev.Inode = events.KindPeerFIN, events.Established, events.CloseWait, m.n
	}
	m.n++
	return nil
}

func (m *finMix) Header() events.Header {
	return events.Header{HZ: 250, Attach: "fentry", CloseWaitNS: 30e9}
}
func (m *finMix) IdleNS() uint64        { return m.n * 20_000 }
func (m *finMix) WallOffset() int64     { return 0 }
func (m *finMix) PollSoon()             {}
func (m *finMix) PollLater()            {}
func (m *finMix) Losses() events.Losses { return events.Losses{} }
func (m *finMix) Detach() error         { return nil }
func (m *finMix) Close() error          { return nil }
