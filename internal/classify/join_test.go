package classify

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// closeWaitHeader is that of --close-wait 10s.
func closeWaitHeader() events.Header {
	h := testHeader
	h.CloseWaitNS = uint64(10 * time.Second)
	return h
}

// finTo is a FIN received by here, from there.
func finTo(at time.Duration) events.Event {
	return events.Event{Kind: events.KindPeerFIN, MonoNS: uint64(at), Sock: 1, Local: here, Remote: there, Netns: 7,
		Before: events.Established, After: events.CloseWait, Flags: events.PeerFIN}
}

// answer is what here does to the same socket.
func answer(kind events.Kind, at time.Duration, flags events.Flags) events.Event {
	return events.Event{Kind: kind, MonoNS: uint64(at), Sock: 1, Local: here, Remote: there, Netns: 7, Task: closer,
		Before: events.CloseWait, After: events.LastAck, Flags: events.PeerFIN | flags}
}

// endingsUntil lets events happen, and the time go on, before the stream ends.
func endingsUntil(h events.Header, now time.Duration, evs ...events.Event) (before, atEnd []events.Ending) {
	c := New(h)
	keep := func(e *events.Ending) { before = append(before, *e) }
	for i := range evs {
		c.Push(&evs[i], keep)
	}
	c.Advance(uint64(now), keep)
	c.Flush(func(e *events.Ending) { atEnd = append(atEnd, *e) })
	return before, atEnd
}

// A FIN that is answered in time is part of the answer; one that is not is reported.
func TestCloseWait(t *testing.T) {
	const sec = time.Second
	closing := answer(events.KindClose, 3*sec, inTask|events.SentFIN)
	reset := answer(events.KindDone, 3*sec, 0)
	reset.After, reset.SockErr = events.Close, epipe
	deaf := answer(events.KindShutdown, 3*sec, inTask|events.ReachedTCP)
	deaf.After, deaf.How = events.CloseWait, 1
	deafLater := deaf
	deafLater.MonoNS = uint64(30 * sec)
	half := answer(events.KindShutdown, 3*sec, inTask|events.ReachedTCP|events.SentFIN)
	half.How = 2
	another := closing
	another.Local = netip.AddrPortFrom(here.Addr(), 444)

	for name, tt := range map[string]struct {
		then []events.Event
		now  time.Duration
		want string // paths, those at the end of the stream after a bar
		ago  time.Duration
	}{
		"closed in time":                  {[]events.Event{closing}, 60 * sec, "close.fin.passive|", 3 * sec},
		"write side shut down":            {[]events.Event{half}, 60 * sec, "shutdown.wr|", 3 * sec},
		"reset by the peer":               {[]events.Event{reset}, 60 * sec, "recv.rst|", 3 * sec},
		"not yet":                         {nil, 10 * sec, "|recv.fin", 0},
		"too late":                        {nil, 10*sec + 1, "recv.fin|", 10 * sec},
		"reported once":                   {[]events.Event{deafLater}, 60 * sec, "recv.fin shutdown.rd|", 10 * sec},
		"a shutdown that answers nothing": {[]events.Event{deaf}, 60 * sec, "shutdown.rd recv.fin|", 10 * sec},
		"closed after the report": {[]events.Event{
			answer(events.KindClose, 75*sec, inTask|events.SentFIN),
		}, 80 * sec, "recv.fin close.fin.passive|", 75 * sec},
		"another socket at that address":   {[]events.Event{another}, 60 * sec, "close.fin.passive|", 0},
		"a FIN of another at that address": {[]events.Event{finTo(4 * sec), closing}, 60 * sec, "close.fin.passive|", 0},
		"a close that began before it came": {[]events.Event{
			answer(events.KindClose, 0, inTask|events.SentFIN),
		}, 60 * sec, "close.fin.passive|", 0},
		"closed after the report, with data": {[]events.Event{
			answer(events.KindClose, 75*sec, inTask|events.SentRST),
		}, 80 * sec, "recv.fin close.rst.unread|", 75 * sec},
	} {
		first := finTo(0)
		if strings.Contains(name, "began before") {
			first = finTo(sec)
		}
		before, atEnd := endingsUntil(closeWaitHeader(), tt.now, append([]events.Event{first}, tt.then...)...)
		if got := pathsOf(before) + "|" + pathsOf(atEnd); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
			continue
		}
		if all := append(before, atEnd...); all[len(all)-1].Evidence.PeerFINAgo != tt.ago &&
			all[0].Evidence.PeerFINAgo != tt.ago {
			t.Errorf("%s: FIN %s and %s before, want %s", name, all[0].Evidence.PeerFINAgo,
				all[len(all)-1].Evidence.PeerFINAgo, tt.ago)
		}
	}
}

func pathsOf(endings []events.Ending) string {
	var all []string
	for i := range endings {
		all = append(all, string(endings[i].Path))
	}
	return strings.Join(all, " ")
}

// How long it has been is said where it is worth a word.
func TestCloseWaitWords(t *testing.T) {
	for name, tt := range map[string]struct {
		h     events.Header
		evs   []events.Event
		now   time.Duration
		cause string
	}{
		"at once": {testHeader, []events.Event{finTo(0)}, 0, "CLOSE_WAIT; waiting for this side to close"},
		"in the end": {closeWaitHeader(), []events.Event{finTo(0)}, 0,
			"CLOSE_WAIT; waiting for this side to close"},
		"late": {closeWaitHeader(), []events.Event{finTo(0)}, time.Minute,
			"CLOSE_WAIT; this side has not closed for 10.0 s"},
		"soon closed": {testHeader, []events.Event{
			finTo(0), answer(events.KindClose, time.Millisecond, inTask|events.SentFIN),
		}, 0,
			"peer closed first; CLOSE_WAIT → LAST_ACK"},
		"closed at last": {testHeader, []events.Event{
			finTo(0), answer(events.KindClose, 75*time.Second, inTask|events.SentFIN),
		}, 0,
			"peer closed first, 75.0 s earlier; CLOSE_WAIT → LAST_ACK"},
	} {
		before, atEnd := endingsUntil(tt.h, tt.now, tt.evs...)
		all := append(before, atEnd...)
		if e := all[len(all)-1]; e.Cause != tt.cause {
			t.Errorf("%s: %q", name, e.Cause)
		}
	}
}

// What waits is bounded: the first to arrive is reported before its deadline.
func TestCloseWaitIsBounded(t *testing.T) {
	c, reported := New(closeWaitHeader()), 0
	for i := range 4096 + 10 {
		fin := finTo(time.Duration(i))
		fin.Sock = uint64(i + 1)
		c.Push(&fin, func(e *events.Ending) {
			if e.MonoNS != uint64(reported) || e.Evidence.PeerFINAgo != 0 {
				t.Errorf("reported the FIN of %d after %s", e.MonoNS, e.Evidence.PeerFINAgo)
			}
			reported++
		})
	}
	if reported != 10 {
		t.Errorf("%d reported before their deadline, want 10", reported)
	}
}

// The owner is looked up for a FIN that is reported, and for no other.
func TestCloseWaitIsCompletedLate(t *testing.T) {
	for name, tt := range map[string]struct {
		h    events.Header
		then []events.Event
		now  time.Duration
		want int
	}{
		"answered": {closeWaitHeader(), []events.Event{
			answer(events.KindClose, time.Second, inTask|events.SentFIN),
		}, time.Minute, 0},
		"reported":   {closeWaitHeader(), nil, time.Minute, 1},
		"in the end": {closeWaitHeader(), nil, 0, 1},
		"at once":    {testHeader, nil, 0, 1},
	} {
		c, asked, owned := New(tt.h), 0, 0
		c.Complete = func(ev *events.Event) {
			asked++
			ev.Owner = &closer
		}
		count := func(e *events.Ending) {
			if e.Path == events.RecvFIN && e.Owner == &closer {
				owned++
			}
		}
		for _, ev := range append([]events.Event{finTo(0)}, tt.then...) {
			c.Push(&ev, count)
		}
		c.Advance(uint64(tt.now), count)
		c.Flush(count)
		if asked != tt.want || owned != tt.want {
			t.Errorf("%s: asked %d times, %d reported with an owner; want %d", name, asked, owned, tt.want)
		}
	}
}

// In tracepoint mode a close waits for a RST of its own. A RST that another process causes in the meantime comes after
// the close, and names it.
func TestResetDuringTheWaitOfAClose(t *testing.T) {
	closing := ordinaryClose(noteTestMS)
	closing.Flags |= events.ReturnUnseen
	rst := events.Event{
		Kind: events.KindReset, MonoNS: 3 * noteTestMS, Sock: 1, Local: here, Remote: there, Netns: 7,
		Flags: events.SentRST | events.Orphan, Before: events.FinWait1, FirstSent: 1000, FirstReceived: 2000,
	}
	done := rst
	done.Kind, done.Flags, done.SockErr, done.After = events.KindDone, events.Orphan, econnaborted, events.Close
	got := endingsWith(nil, 0, closing, rst, done)
	if len(got) != 2 || got[0].Path != events.CloseFINActive || got[1].Earlier == nil ||
		got[1].Earlier.Path != events.CloseFINActive {
		t.Errorf("got %+v", got)
	}
}

// The end of a socket may be recorded after the close that finds it ended: a close on another CPU names the owner, and
// follows the end. A socket that was never connected has no end to wait for.
func TestEndRecordedAfterClose(t *testing.T) {
	reset := events.Event{Kind: events.KindDone, MonoNS: noteTestMS, Sock: 1, Local: here, Remote: there, Netns: 7,
		Before: events.Established, After: events.Close, SockErr: econnreset}
	closing := closedBy(3 * noteTestMS)
	closing.Before, closing.After, closing.Flags, closing.SockErr = events.Close, events.Close, inTask, econnreset
	got := endingsWith(nil, 0, closing, reset)
	if len(got) != 2 || got[0].Path != events.RecvRST || got[0].Owner == nil || got[0].Owner.PID != closing.Task.PID ||
		got[1].Path != "close.silent.closed.reset" || got[1].Earlier == nil || got[1].Earlier.AgoNS != 2*noteTestMS {
		t.Errorf("got %+v", got)
	}
	closing.Remote = netip.AddrPort{}
	c, shown := New(testHeader), 0
	c.Push(&closing, func(*events.Ending) { shown++ })
	if shown != 1 {
		t.Errorf("%d endings of a socket that was never connected", shown)
	}
}

// A RST in reply is explained by the end of its connection also while that end waits for its owner, in the same words
// as afterwards, and takes nothing from it.
func TestReplyAfterPendingEnd(t *testing.T) {
	timedOut := events.Event{Kind: events.KindDone, MonoNS: 1, Sock: 1, Local: here, Remote: there, Netns: 7,
		Before: events.Established, After: events.Close, SockErr: etimedout, UnackedBytes: 9,
		FirstSent: 100, FirstReceived: 200, SndNxt: 110}
	killed := timedOut
	killed.Kind, killed.SockErr, killed.Task, killed.Flags = events.KindAbort, econnaborted, closer, inTask|events.SentRST
	for path, tt := range map[events.Path]struct {
		end  events.Event
		want string
	}{
		events.AbortRetransTimeout: {timedOut, "the connection ended (abort.retrans-timeout)"},
		events.AbortDiag:           {killed, "nginx[42] ended the connection (abort.diag)"},
	} {
		for _, wait := range []time.Duration{20 * time.Millisecond, 200 * time.Millisecond} {
			reply, closing := late(1+uint64(wait)), closedBy(2+uint64(wait))
			reply.SegmentAck = 110
			closing.Before, closing.After, closing.Flags = events.Close, events.Close, inTask
			endings, _ := conclude(tt.end, reply, closing)
			e := endingOf(t, endings, events.ReplyNoSocket)
			if !strings.HasSuffix(e.Cause, " after "+tt.want) || e.Earlier.AgoNS != uint64(wait) {
				t.Errorf("%s, %+v, want %s", e.Cause, e.Earlier, tt.want)
			}
			if e := endingOf(t, endings, path); (e.Owner != nil) != (wait < ownerWindow) {
				t.Errorf("%s, %v later: owner %v", path, wait, e.Owner)
			}
			reply.SegmentAck = 5000 // of another connection
			if endings, _ = conclude(tt.end, reply); endingOf(t, endings, events.ReplyNoSocket).Earlier != nil {
				t.Errorf("of another connection: %+v", endings)
			}
		}
	}
}

// A reply that waits for records is explained by what ended the connection, not by the close of its socket, which came
// later.
func TestReplyBeforeCloseOfEnded(t *testing.T) {
	disconnect := events.Event{Kind: events.KindDisconnect, MonoNS: noteTestMS, Sock: 1, Local: here, Remote: there,
		Netns: 7, Task: closer, Flags: inTask | events.SentRST | events.Disconnected, Before: events.Established,
		After: events.Close, FirstSent: 100, FirstReceived: 200, SndNxt: 110}
	closing := closedBy(16 * noteTestMS)
	closing.Remote = netip.AddrPortFrom(there.Addr(), 0)
	closing.Before, closing.After, closing.Flags, closing.SockErr = events.Close, events.Close, inTask, econnreset
	reply := late(2 * noteTestMS)
	reply.SegmentAck = 110
	for _, attach := range []string{"fentry", "tracepoint"} {
		h := testHeader
		h.Attach = attach
		var got []events.Ending
		c := New(h)
		for _, ev := range []events.Event{disconnect, closing, reply} { // the reply's record comes last
			c.Push(&ev, func(e *events.Ending) { got = append(got, *e) })
		}
		c.Flush(func(e *events.Ending) { got = append(got, *e) })
		e := endingOf(t, got, events.ReplyNoSocket)
		if e.Earlier == nil || e.Earlier.Path != events.DisconnectRST || e.Earlier.AgoNS != noteTestMS {
			t.Errorf("%s: %s, %+v", attach, e.Cause, e.Earlier)
		}
	}
}
