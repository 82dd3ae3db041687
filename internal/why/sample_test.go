package why

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// endsOf returns what two ends of a connection report: a close with unread data, and the RST received, which is
// reported first.
func endsOf(n int, joined bool) []*events.Ending {
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Second)
	client := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.5"), uint16(20000+n))
	server := netip.MustParseAddrPort("10.0.0.9:443")
	received := &events.Ending{
		Time: at, Path: events.RecvRST, Trigger: events.TriggerSegment, Local: client, Remote: server, Cause: "ECONNRESET",
		Before: events.Established, After: events.Close,
	}
	if !joined {
		return []*events.Ending{received}
	}
	received.Peer = &events.Past{Path: events.CloseRSTUnread}
	return []*events.Ending{received, {
		Time: at, Path: events.CloseRSTUnread, Trigger: events.TriggerClose, Local: server, Remote: client, RST: true,
		Actor: &events.Task{PID: 7, Comm: "nginx"}, Before: events.Established, After: events.Close, Cause: "1 B unread",
	}}
}

func sampleOf(endings ...*events.Ending) *Sample {
	s := NewSample()
	for _, e := range endings {
		s.Add(e, true)
	}
	return s
}

// A path is shown by a connection that it ended, not by one in which it follows from another path, even if that comes
// first and has both ends.
func TestExampleIsTheCause(t *testing.T) {
	var all []*events.Ending
	for n := range 5 {
		all = append(all, endsOf(n, true)...)
	}
	s := sampleOf(append(all, endsOf(9, false)...)...)
	x := s.Example(events.CloseRSTUnread)
	if x == nil || x.Cause != events.CloseRSTUnread || len(x.Ladder.Steps) != 2 {
		t.Fatalf("%+v", x)
	}
	want := []string{"nginx[7], 10.0.0.9:443: no error; it closed the socket.", "10.0.0.5:20000: no application was seen."}
	if !slices.Equal(x.Applications, want) {
		t.Errorf("%q", x.Applications)
	}
	if want := []string{"nginx[7], 10.0.0.9:443: 1 B unread."}; !slices.Equal(x.Reasons, want) {
		t.Errorf("%q", x.Reasons)
	}
	if x := s.Example(events.RecvRST); x == nil || x.Cause != events.RecvRST || x.Ladder.Ends[0].Name != "10.0.0.5:20009" {
		t.Errorf("%+v", x)
	}
	if x := s.Example(events.CloseRSTLinger0); x != nil {
		t.Errorf("%+v", x)
	}
}

// The endings of a connection before the one that deserves attention are in its example.
func TestExampleHasWhatWasBefore(t *testing.T) {
	fin := &events.Ending{
		Time: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), Path: events.RecvFIN, Before: events.Established,
		After: events.CloseWait, Local: netip.MustParseAddrPort("10.0.0.9:443"),
		Remote: netip.MustParseAddrPort("10.0.0.5:20001"), Trigger: events.TriggerSegment,
	}
	if fin.Severity() != events.Plain {
		t.Fatal("a FIN received deserves attention")
	}
	reset := endsOf(1, true)
	reset[1].Before = events.CloseWait
	text := fmt.Sprint(sampleOf(append([]*events.Ending{fin}, reset...)...).Example(events.CloseRSTUnread).Ladder)
	if !strings.Contains(text, "FIN received") {
		t.Error(text)
	}
}

// An ending that does not count is no example, but completes one.
func TestExampleOfWhatCounts(t *testing.T) {
	s := NewSample()
	for n := range 5 {
		for _, e := range endsOf(n, true) {
			s.Add(e, n == 4 && e.Path == events.RecvRST)
		}
	}
	x := s.Example(events.CloseRSTUnread)
	if x == nil || len(x.Ladder.Steps) != 2 || x.Ladder.Ends[0].Name != "10.0.0.5:20004" {
		t.Errorf("%+v", x)
	}
}

// A sample is bounded, whatever the endings are.
func TestSampleIsBounded(t *testing.T) {
	s := NewSample()
	for n := range 5000 {
		for _, e := range endsOf(n, true) {
			e.Path = events.Path(fmt.Sprintf("%s.%d", e.Path, n)) // of a hostile or a newer recording
			s.Add(e, true)
		}
		for _, e := range endsOf(1, true) {
			e.MonoNS = uint64(n)
			s.Add(e, true)
		}
	}
	kept := 0
	for _, endings := range s.pairs {
		kept += len(endings)
	}
	if len(s.pairs) > maxSampled || kept > 4*maxSampled || len(s.recent) != maxRecent {
		t.Errorf("%d pairs, %d endings, %d recent", len(s.pairs), kept, len(s.recent))
	}
}
