package classify

import (
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// lossOf is a loss between two times.
func lossOf(from, to uint64) events.Event {
	return events.Event{Kind: events.KindLoss, MonoNS: to, DurationNS: to - from, LostRecords: 1}
}

// A verdict is inferred if something was lost in the time that it rests on, and
// observed if that was before or after.
func TestLossInTheTimeOfAVerdict(t *testing.T) {
	sec := 1000 * ms
	fin := events.Event{Kind: events.KindPeerFIN, MonoNS: 20 * sec, Sock: 2, Before: events.Established,
		After: events.CloseWait}
	later := events.Event{Kind: events.KindClose, MonoNS: 31 * sec, Sock: 9, Before: events.Established,
		After: events.FinWait1, Flags: inTask | events.SentFIN}
	shutdown := events.Event{Kind: events.KindShutdown, MonoNS: 20 * sec, Sock: 2, Before: events.Established,
		After: events.FinWait1, How: 2, Flags: inTask | events.SentFIN}
	closed := events.Event{Kind: events.KindClose, MonoNS: 30 * sec, Sock: 2, Before: events.Close, After: events.Close,
		Flags: inTask | events.PeerFIN}
	active := closed
	active.IdleReceivedJiffies, active.IdleSentJiffies = 1000, 2500 // at 250 a second: since 26 s
	byStates := later
	byStates.MonoNS, byStates.Flags = 20*sec, inTask|events.SentFIN|events.ReturnUnseen
	reset := gotRST(20 * sec)
	reset.ShutdownMask, reset.Before = 3, events.FinWait2
	queue := events.Event{Kind: events.KindClose, MonoNS: 20 * sec, DurationNS: sec, Before: events.Listen,
		After: events.Close, Children: 2, ChildrenReset: 1, Flags: inTask}
	for _, tt := range []struct {
		name     string
		evs      []events.Event
		path     events.Path
		from, to uint64 // what the verdict rests on, seconds
		doubt    string
	}{
		{"a FIN that is not answered", []events.Event{fin, later}, events.RecvFIN, 20, 30, "a close by this side"},
		{"after an ending that was seen", []events.Event{shutdown, closed}, events.ClosedTimeWait, 20, 30, "a later ending"},
		{"an end that was not seen", []events.Event{closed}, events.CloseSilentClosed, 0, 30, "what ended the connection"},
		{"since the last byte", []events.Event{active}, events.CloseSilentClosed, 26, 30, "what ended the connection"},
		{"a FIN by a change of state", []events.Event{byStates}, events.CloseFINActive, 20, 20, "a RST after the FIN"},
		{"a RST after shutdown(2)", []events.Event{reset}, events.RecvRST, 20, 20, "a RST in reply to data"},
		{"a queue that moved", []events.Event{queue}, events.CloseListenMigrated, 20, 21, "in the accept queue"},
	} {
		verdict := func(loss events.Event) (found events.Ending) {
			c := New(testHeader)
			c.header.CloseWaitNS = 10 * sec
			keep := func(e *events.Ending) {
				if e.Path == tt.path {
					found = *e
				}
			}
			for i, ev := range tt.evs {
				if ev.Local, ev.Remote, ev.Netns = there, here, 7; i == len(tt.evs)-1 {
					c.Push(&loss, keep)
				}
				c.Push(&ev, keep)
			}
			c.Flush(keep)
			if found.Path == "" {
				t.Fatalf("%s: no %s", tt.name, tt.path)
			}
			return found
		}
		if e := verdict(lossOf(tt.to*sec-ms, tt.to*sec+ms)); !strings.Contains(e.Doubt, tt.doubt) {
			t.Errorf("%s: doubt %q after a loss, want %q", tt.name, e.Doubt, tt.doubt)
		}
		if e := verdict(lossOf(tt.from*sec-ms, tt.from*sec)); !strings.Contains(e.Doubt, tt.doubt) && tt.from > 0 {
			t.Errorf("%s: doubt %q after a loss at the begin", tt.name, e.Doubt)
		}
		if e := verdict(lossOf(tt.to*sec+200*ms, tt.to*sec+300*ms)); e.Doubt != "" {
			t.Errorf("%s: doubt %q, and nothing was lost until then", tt.name, e.Doubt)
		}
		if tt.from == 0 {
			continue
		}
		if e := verdict(lossOf(tt.from*sec-200*ms, tt.from*sec-100*ms)); e.Doubt != "" {
			t.Errorf("%s: doubt %q, and nothing was lost since then", tt.name, e.Doubt)
		}
	}
}

// The owner by a later call is in doubt if another socket may have the address,
// unless the numbers of the connection show that it is the same.
func TestLossBeforeTheCallOfAnOwner(t *testing.T) {
	rst, call := gotRST(ms), callOf(events.KindClose, 50*ms)
	owner := func(loss events.Event) events.Ending {
		endings, _ := conclude(rst, loss, call)
		return endings[0]
	}
	if e := owner(lossOf(2*ms, 3*ms)); e.OwnerBy != events.OwnerByLaterCall || !strings.Contains(e.Doubt, "a later call") {
		t.Errorf("owner by %q, doubt %q", e.OwnerBy, e.Doubt)
	}
	if e := owner(lossOf(60*ms, 61*ms)); e.Doubt != "" {
		t.Errorf("a loss afterwards: doubt %q", e.Doubt)
	}
	rst.FirstSent, rst.FirstReceived = 10, 20
	call.FirstSent, call.FirstReceived = 10, 20
	if e := owner(lossOf(2*ms, 3*ms)); e.OwnerBy != events.OwnerByLaterCall || e.Doubt != "" {
		t.Errorf("the same connection: owner by %q, doubt %q", e.OwnerBy, e.Doubt)
	}
}

// Replies that the rate limit left out are on the next reply, once, and make no verdict inferred.
func TestRepliesLeftOut(t *testing.T) {
	reply := events.Event{Kind: events.KindReply, MonoNS: ms, Local: here, Remote: there, SegmentFlags: thSYN,
		Flags: events.SentRST}
	left := events.Event{Kind: events.KindLoss, MonoNS: ms, DurationNS: ms, RepliesLeftOut: 3}
	close := events.Event{Kind: events.KindClose, MonoNS: ms, Before: events.Close, After: events.Close, Flags: inTask,
		Local: here, Remote: there}
	endings, _ := conclude(reply, left, left, close, reply, reply)
	if len(endings) != 4 {
		t.Fatalf("%d endings", len(endings))
	}
	for i, want := range []uint64{0, 0, 6, 0} {
		if e := endings[i]; e.RepliesLeftOut != want || e.Doubt != "" {
			t.Errorf("%d: %s, %d left out, want %d, doubt %q", i, e.Path, e.RepliesLeftOut, want, e.Doubt)
		}
	}
}

// Losses are remembered within a bound, and none is forgotten.
func TestLossesAreBounded(t *testing.T) {
	var l losses
	for i := range uint64(10 * maxLosses) {
		ev := lossOf(10*i, 10*i+5)
		l.add(&ev)
	}
	if len(l) != maxLosses || cap(l) > 4*maxLosses {
		t.Errorf("%d of %d", len(l), cap(l))
	}
	for i := range uint64(10 * maxLosses) {
		if !l.between(10*i+1, 10*i+2) {
			t.Fatalf("loss %d is forgotten", i)
		}
	}
	end := 10*uint64(10*maxLosses) - 5
	if l.between(end+1, end+100) || l.between(end-9, end-6) {
		t.Errorf("losses where none was: %v", l[len(l)-2:])
	}
	ev := lossOf(end-20, end+20) // over others
	l.add(&ev)
	if !l.between(end+10, end+10) || !l.between(end-19, end-19) {
		t.Errorf("not joined: %v", l[len(l)-2:])
	}
}
