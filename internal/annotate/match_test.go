package annotate

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/capture"
	"github.com/closetrace/closetrace/internal/events"
)

var (
	start  = time.Unix(1_800_000_000, 0)
	server = netip.MustParseAddrPort("10.0.0.5:443")
	client = netip.MustParseAddrPort("10.0.0.9:33042")
	outer  = netip.MustParseAddrPort("192.0.2.1:6000") // of the client, behind NAT
)

// sent returns a segment of the server, milliseconds after the start.
func sent(ms int, flags uint8, seq, ack uint32) capture.Segment {
	return capture.Segment{
		Time: start.Add(time.Duration(ms) * time.Millisecond), HasTime: true, Commentable: true,
		Src: server, Dst: client, Seq: seq, Ack: ack, Flags: flags,
	}
}

func translate(s capture.Segment, src, dst netip.AddrPort) capture.Segment {
	s.Src, s.Dst = src, dst
	return s
}

// closed returns an ending of the server.
func closed(ms int, path events.Path, change func(*events.Ending)) *events.Ending {
	e := &events.Ending{
		Time: start.Add(time.Duration(ms) * time.Millisecond), Path: path, Local: server, Remote: client,
		Actor: &events.Task{PID: 4211, Comm: "nginx"}, Cause: "because",
	}
	change(e)
	return e
}

func fin(snd, rcv uint32) func(*events.Ending) {
	return func(e *events.Ending) { e.FIN, e.Evidence.SndNxt, e.Evidence.RcvNxt = true, snd, rcv }
}

func rst(snd, rcv uint32) func(*events.Ending) {
	return func(e *events.Ending) { e.RST, e.Evidence.SndNxt, e.Evidence.RcvNxt = true, snd, rcv }
}

// reply answers a segment.
func reply(seq, ack, size uint32) func(*events.Ending) {
	return func(e *events.Ending) {
		e.RST, e.Evidence.SegmentSeq, e.Evidence.SegmentAck, e.Evidence.SegmentBytes = true, seq, ack, size
	}
}

func both(change ...func(*events.Ending)) func(*events.Ending) {
	return func(e *events.Ending) {
		for _, c := range change {
			c(e)
		}
	}
}

func unsent(n uint32) func(*events.Ending) {
	return func(e *events.Ending) { e.Evidence.UnsentBytes = n }
}
func unacked(n uint32) func(*events.Ending) {
	return func(e *events.Ending) { e.Evidence.UnackedBytes = n }
}

func took(d time.Duration) func(*events.Ending) {
	return func(e *events.Ending) { e.DurationNS = uint64(d) }
}
func nothing(*events.Ending) {}

func segmentOf(seq, ack uint32) func(*events.Ending) {
	return func(e *events.Ending) { e.Evidence.SegmentSeq, e.Evidence.SegmentAck = seq, ack }
}

func at(local, remote netip.AddrPort) func(*events.Ending) {
	return func(e *events.Ending) { e.Local, e.Remote = local, remote }
}

// run matches segments with the endings of one host.
func run(segments []capture.Segment, endings []*events.Ending) (*matcher, *host) {
	m := &matcher{}
	for i := range segments {
		segments[i].Packet = int64(i) + 1
		m.add(&segments[i])
	}
	m.index()
	h := &host{matcher: m, header: events.Header{Host: "web1", Attach: "fentry"}}
	for _, estimating := range []bool{true, false} {
		h.estimating = estimating
		for _, e := range endings {
			_ = h.Write(e)
		}
		h.estimated()
	}
	m.finish()
	return m, h
}

func TestMatch(t *testing.T) {
	const unread, active, nosocket = events.CloseRSTUnread, events.CloseFINActive, events.ReplyNoSocket
	comment := func(p events.Path) string { return "closetrace: " + string(p) + " nginx[4211] because" }
	withData := func(s capture.Segment, n uint32) capture.Segment { s.Payload = n; return s }
	fragmented := func(s capture.Segment) capture.Segment { s.Fragment = true; return s }
	timeless := func(s capture.Segment) capture.Segment { s.HasTime = false; return s }
	simple := func(s capture.Segment) capture.Segment { s.Commentable = false; return timeless(s) }
	mapped := func(e *events.Ending) {
		e.Local = netip.MustParseAddrPort("[::ffff:10.0.0.5]:443")
		e.Remote = netip.MustParseAddrPort("[::ffff:10.0.0.9]:33042")
	}
	const FA, RA, R, F = capture.FIN | capture.ACK, capture.RST | capture.ACK, capture.RST, capture.FIN
	type segments = []capture.Segment
	type endings = []*events.Ending
	for _, tt := range []struct {
		name     string
		segments segments
		endings  endings
		want     []string // comments, or texts of reasons
	}{
		{"FIN", segments{sent(0, FA, 7, 9)}, endings{closed(0, active, fin(7, 9))}, []string{comment(active)}},
		{"FIN behind data", segments{withData(sent(0, FA, 7, 9), 5)}, endings{closed(0, active, both(fin(7, 9), unsent(5)))},
			[]string{comment(active)}},
		{"v4-mapped", segments{sent(0, FA, 7, 9)}, endings{closed(0, active, both(fin(7, 9), mapped))},
			[]string{comment(active)}},
		{"sent again, with data", segments{sent(0, FA, 7, 9), withData(sent(200, FA, 4, 9), 3), sent(90_000, FA, 7, 10)},
			endings{closed(0, active, fin(7, 9))}, []string{comment(active), comment(active), comment(active)}},
		{"another FIN", segments{sent(0, FA, 7, 9), sent(1, FA, 8, 9)}, endings{closed(0, active, fin(7, 9))},
			[]string{comment(active), reasonTexts[notOfConnection]}},
		{"FIN of the other end", segments{translate(sent(0, FA, 7, 9), client, server)},
			endings{closed(0, active, fin(7, 9))}, []string{reasonTexts[otherEnd]}},
		{"FIN sent late", segments{sent(8_000, FA, 107, 9)}, endings{closed(0, active, both(fin(7, 9), unsent(100)))},
			[]string{comment(active)}},
		{"RST", segments{sent(0, RA, 7, 9)}, endings{closed(0, unread, rst(7, 9))}, []string{comment(unread)}},
		{"RST is no FIN", segments{sent(0, RA, 7, 9)}, endings{closed(0, active, fin(7, 9))},
			[]string{reasonTexts[notOfConnection]}},
		{"RST within a window that shrank", segments{sent(0, RA, 5, 9)}, endings{closed(0, unread, both(rst(7, 9), unacked(3)))},
			[]string{comment(unread)}},
		{"RST below what was acknowledged", segments{sent(0, RA, 3, 9)},
			endings{closed(0, unread, both(rst(7, 9), unacked(3)))}, []string{reasonTexts[notOfConnection]}},
		{"RST and FIN of one call", segments{sent(0, FA, 7, 9), sent(1, RA, 8, 9)},
			endings{closed(0, unread, both(rst(7, 9), fin(7, 9)))}, []string{comment(unread), comment(unread)}},
		{"RST after a long call", segments{sent(9_000, RA, 7, 9)},
			endings{closed(0, unread, both(rst(7, 9), took(9*time.Second))), closed(0, active, fin(1, 1))},
			[]string{comment(unread)}},
		{"reply", segments{sent(0, R, 77, 0)}, endings{closed(0, nosocket, reply(5, 77, 0))}, []string{comment(nosocket)}},
		{"reply to a SYN", segments{sent(0, RA, 0, 6)}, endings{closed(0, nosocket, reply(5, 0, 0))},
			[]string{comment(nosocket)}},
		{"reply to another SYN", segments{sent(0, RA, 0, 60)}, endings{closed(0, nosocket, reply(5, 0, 0))},
			[]string{reasonTexts[notOfConnection]}},
		{"the nearest of two replies", segments{sent(0, R, 77, 0), sent(900, R, 77, 0)},
			endings{closed(0, nosocket, reply(5, 77, 0)), closed(900, unread, reply(6, 77, 0))},
			[]string{comment(nosocket), comment(unread)}},
		{"a reply of later", segments{sent(0, FA, 7, 9), sent(10_000, R, 77, 0)},
			endings{closed(0, active, fin(7, 9)), closed(0, nosocket, reply(5, 77, 0)), closed(20_000, active, nothing)},
			[]string{comment(active), reasonTexts[notOfConnection]}},
		{"RST received", segments{sent(0, RA, 7, 9)},
			endings{closed(0, events.RecvRST, both(at(client, server), segmentOf(7, 9)))}, []string{comment(events.RecvRST)}},
		{"RST received, headers unseen", segments{sent(0, RA, 7, 9)},
			endings{closed(0, events.RecvRST, both(at(client, server), func(e *events.Ending) { e.Evidence.RcvNxt = 7 }))},
			[]string{comment(events.RecvRST)}},
		{"RST with the number of the FIN received, headers unseen", segments{sent(0, RA, 7, 9)},
			endings{closed(0, events.RecvRST, both(at(client, server), func(e *events.Ending) {
				e.Evidence.RcvNxt, e.Evidence.PeerFIN = 8, true
			}))}, []string{comment(events.RecvRST)}},
		{"RST below what was received", segments{sent(0, RA, 7, 9)},
			endings{closed(0, events.RecvRST, both(at(client, server), func(e *events.Ending) { e.Evidence.RcvNxt = 8 }))},
			[]string{reasonTexts[otherEnd]}},
		{"refused", segments{sent(0, RA, 0, 9)},
			endings{closed(0, events.RecvRST, both(at(client, server), func(e *events.Ending) { e.Evidence.SndNxt = 9 }))},
			[]string{comment(events.RecvRST)}},
		{"FIN received", segments{sent(0, FA, 7, 9)},
			endings{closed(0, events.RecvFIN, both(at(client, server), func(e *events.Ending) { e.Evidence.RcvNxt = 8 }))},
			[]string{comment(events.RecvFIN)}},
		{"the sender's is preferred", segments{sent(0, RA, 7, 9)},
			endings{closed(0, events.RecvRST, both(at(client, server), segmentOf(7, 9))), closed(0, unread, rst(7, 9)),
				closed(0, events.RecvRST, both(at(client, server), segmentOf(7, 9)))}, []string{comment(unread)}},
		{"the clock of the capture is ahead", segments{sent(3_600_000, FA, 7, 9), sent(3_600_500, FA, 7, 9)},
			endings{closed(0, active, fin(7, 9))}, []string{comment(active), comment(active)}},
		{"without sequence numbers", segments{sent(20, RA, 7, 9)}, endings{closed(0, unread, rst(0, 0))},
			[]string{comment(unread)}},
		{"without sequence numbers, later", segments{sent(200, RA, 7, 9)}, endings{closed(0, unread, rst(0, 0))},
			[]string{reasonTexts[notOfConnection]}},
		{"without sequence numbers, two endings", segments{sent(20, RA, 7, 9)},
			endings{closed(0, unread, rst(0, 0)), closed(1, nosocket, rst(0, 0))}, []string{reasonTexts[ambiguous]}},
		{"behind NAT", segments{translate(sent(0, FA, 7, 9), server, outer)}, endings{closed(0, active, fin(7, 9))},
			[]string{comment(active)}},
		{"both translated", segments{translate(sent(0, RA, 7, 10), outer, outer)}, endings{closed(0, unread, rst(7, 9))},
			[]string{comment(unread)}},
		{"both translated, another acknowledgment", segments{translate(sent(0, RA, 7, 11), outer, outer)},
			endings{closed(0, unread, rst(7, 9))}, []string{reasonTexts[notRecorded]}},
		{"a reply, both translated", segments{translate(sent(0, R, 77, 0), outer, outer)},
			endings{closed(0, nosocket, reply(5, 77, 0))}, []string{reasonTexts[notRecorded]}},
		{"a reply behind NAT", segments{translate(sent(0, R, 77, 0), server, outer)},
			endings{closed(0, nosocket, reply(5, 77, 0))}, []string{comment(nosocket)}},
		{"two connections behind NAT", segments{translate(sent(0, R, 77, 0), server, outer)},
			endings{closed(0, nosocket, reply(5, 77, 0)),
				closed(0, nosocket, both(reply(5, 77, 0), at(netip.MustParseAddrPort("10.0.0.6:443"), outer)))},
			[]string{reasonTexts[ambiguous]}},
		{"on both sides of NAT", segments{sent(0, FA, 7, 9), translate(sent(1, FA, 7, 9), server, outer)},
			endings{closed(0, active, fin(7, 9))}, []string{comment(active), comment(active)}},
		{"sent again behind NAT, with another acknowledgment",
			segments{translate(sent(0, FA, 7, 9), outer, outer), translate(sent(500, FA, 7, 99), outer, outer)},
			endings{closed(0, active, fin(7, 9))}, []string{comment(active), comment(active)}},
		{"before and after", segments{sent(-5_000, FA, 7, 9), sent(0, FA, 8, 9), sent(9_000, FA, 9, 9)},
			endings{closed(0, active, fin(8, 9))},
			[]string{reasonTexts[before], comment(active), reasonTexts[after]}},
		{"no ending of this connection", segments{translate(sent(0, FA, 7, 9), server, outer)},
			endings{closed(0, active, fin(8, 9))}, []string{reasonTexts[noEnding]}},
		{"fragment", segments{fragmented(sent(0, FA, 7, 9))}, endings{closed(0, active, fin(7, 9))},
			[]string{reasonTexts[fragment]}},
		{"a fragment of a RST", segments{fragmented(sent(0, RA, 7, 9))}, endings{closed(0, unread, rst(7, 9))},
			[]string{comment(unread)}},
		{"no time, no room", segments{timeless(sent(0, FA, 7, 9)), simple(sent(0, FA, 7, 9))},
			endings{closed(0, active, fin(7, 9))}, []string{reasonTexts[noTime], reasonTexts[noRoom]}},
		{"no endings", segments{sent(0, F, 7, 0)}, nil, []string{reasonTexts[notRecorded]}},
	} {
		m, h := run(tt.segments, tt.endings)
		for i, s := range m.segments {
			got := s.comment
			if got == "" {
				got = reasonTexts[m.reason(s, []*host{h})]
			}
			if got != tt.want[i] {
				t.Errorf("%s, segment %d: %q, want %q", tt.name, i, got, tt.want[i])
			}
		}
	}
}

// Where RSTs of netfilter are not recorded, one that no ending explains may be its.
func TestReasonNetfilter(t *testing.T) {
	closing := closed(0, events.CloseFINActive, fin(7, 9))
	m, h := run([]capture.Segment{sent(0, capture.RST, 1, 0)}, []*events.Ending{closing})
	for _, tt := range []struct {
		header events.Header
		want   reason
	}{
		{events.Header{Attach: "fentry"}, notOfConnection},
		{events.Header{Attach: "fentry", Missing: []string{"nf_send_reset"}}, netfilter},
		{events.Header{Attach: events.AttachTracepoint}, netfilter},
	} {
		h.header = tt.header
		if got := m.reason(m.segments[0], []*host{h}); got != tt.want {
			t.Errorf("%+v: %q", tt.header, reasonTexts[got])
		}
	}
}

func TestComment(t *testing.T) {
	h := &host{header: events.Header{Host: "web1"}}
	e := closed(0, events.CloseRSTUnread, nothing)
	e.Cause, e.Doubt = "148 B unread", "the close was not seen"
	const plain = "closetrace: close.rst.unread nginx[4211] 148 B unread (inferred: the close was not seen)"
	if got := h.comment(e); got != plain {
		t.Errorf("%q", got)
	}
	if h.named = true; h.comment(e) != plain+" on web1" {
		t.Errorf("%q", h.comment(e))
	}
	e.Actor, e.Owner = nil, &events.Task{PID: 1, Comm: "\x1b[31m\xff\n\u202e"}
	e.Cause, e.Doubt, h.named = "", "", false
	if got := h.comment(e); got != `closetrace: close.rst.unread \x1b[31m\xff; \u202e[1]` {
		t.Errorf("%q", got)
	}
	e.Doubt = string(make([]byte, 5000))
	if got := h.comment(e); len(got) != maxComment {
		t.Errorf("%d bytes", len(got))
	}
}

// A copy asks for each comment twice if a section says its length.
func TestCommentsAskedForTwice(t *testing.T) {
	m := &matcher{segments: []*segment{{comment: "first"}, {comment: "second"}}}
	m.segments[0].Packet, m.segments[1].Packet = 2, 5
	comments := (&summary{}).comments(m, "1")
	for range 2 {
		var got []string
		for number := range int64(7) {
			got = append(got, comments.Packet(number))
		}
		if want := []string{"", "", "first", "", "", "second", ""}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// More segments than the limit are counted and get no comment.
func TestLimit(t *testing.T) {
	m := &matcher{}
	s := sent(0, capture.FIN, 7, 0)
	for range maxSegments + 2 {
		m.add(&s)
	}
	if n := m.tally(nil); len(m.segments) != maxSegments || n[beyondLimit] != 2 {
		t.Errorf("%d segments, %d beyond", len(m.segments), n[beyondLimit])
	}
}

// Addresses that were used again and again do not hide an ending.
func TestManyConnectionsOfOnePair(t *testing.T) {
	var segments []capture.Segment
	var endings []*events.Ending
	for i := range maxCandidates + 100 {
		segments = append(segments, sent(i, capture.FIN|capture.ACK, uint32(i+1)<<8, 9))
		endings = append(endings, closed(i, events.CloseFINActive, fin(uint32(i+1)<<8, 9)))
	}
	m, h := run(segments, endings)
	if n := m.tally([]*host{h}); n[explained] != len(segments) {
		t.Errorf("%d of %d", n[explained], len(segments))
	}
}
