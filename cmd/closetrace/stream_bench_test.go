package main

import (
	"io"
	"net/netip"
	"testing"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/sink"
)

// warmStream has remembered all that it may.
func warmStream(t testing.TB, f format) *stream {
	t.Helper()
	out, err := newSinkTo(io.Discard, f, sink.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := newStream(&env{}, &finMix{}, out, 0)
	s.wanted, s.taken = func(*events.Ending) bool { return true }, new(sink.Summary).Add
	flowOn(t, s, 150_000)
	return s
}

func flowOn(t testing.TB, s *stream, facts int) {
	t.Helper()
	for range facts {
		if err := s.next(); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkEvent is the way of a fact through closetrace, from what was decoded to a line: what a connection of the
// FIN mix gives, both ends of it, one fact after the other.
func BenchmarkEvent(b *testing.B) {
	for _, f := range []format{formatJSON, formatTable} {
		b.Run(string(f), func(b *testing.B) {
			s := warmStream(b, f)
			s.look = []func(*events.Event){enrich.NewOwners(b.TempDir()).Fill}
			b.ReportAllocs()
			for b.Loop() {
				if err := s.next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What is common needs no memory on its way to a line: garbage is to be collected, and costs more than the rest. On a
// terminal, where rates are human, a row needs what tablewriter does for it, which is mostly for its log.
func TestEventsNeedNoAllocation(t *testing.T) {
	for _, f := range []format{formatJSON, formatTable} {
		s := warmStream(t, f)
		const facts = 10_000
		if n := testing.AllocsPerRun(1, func() { flowOn(t, s, facts) }); n > facts/100 {
			t.Errorf("%s: %.0f allocations for %d facts", f, n, facts)
		}
		if s.told < s.source.(*finMix).n*9/10 {
			t.Errorf("%s: %d endings of %d facts", f, s.told, s.source.(*finMix).n)
		}
	}
}

// finMix makes up connections of which the client closes first, on one host.
type finMix struct{ n uint64 }

func (m *finMix) Read(ev *events.Event) error {
	connection := m.n / 4
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(32768+connection%28000))
	server := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 7777)
	*ev = events.Event{
		MonoNS: m.n * 20_000, Sock: 0xffff888000000000 + connection%64*4096, Netns: 4026531840, CgroupID: 1,
		Local: client, Remote: server, BytesReceived: 1000, BytesSent: 200,
	}
	step := m.n % 4
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
	case 3:
		ev.Kind, ev.Before, ev.After, ev.Flags = events.KindPeerFIN, events.FinWait2, events.TimeWait, events.Orphan
	}
	m.n++
	return nil
}

func (m *finMix) Header() events.Header { return events.Header{HZ: 250, Attach: "fentry"} }
func (m *finMix) IdleNS() uint64        { return m.n * 20_000 }
func (m *finMix) Losses() probe.Losses  { return probe.Losses{} }
func (m *finMix) Detach() error         { return nil }
func (m *finMix) Close() error          { return nil }
