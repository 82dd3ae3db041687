package classify

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

const noteTestMS = uint64(time.Millisecond)

// ordinaryClose is a close that the kernel side only counts in the quiet tier.
func ordinaryClose(at uint64) events.Event {
	return events.Event{
		Kind: events.KindClose, MonoNS: at, Sock: 1, Local: here, Remote: there, Netns: 7, Task: closer,
		Flags: events.SentFIN | inTask | events.UnderLock | events.Accepted, Before: events.Established, After: events.FinWait1,
		FirstSent: 1000, FirstReceived: 2000, SndNxt: 1001,
	}
}

// noted is the note of a close.
func noted(ev events.Event) events.Note {
	n := events.Note{
		MonoNS: ev.MonoNS, Sock: ev.Sock, Netns: ev.Netns, PID: ev.Task.PID, TID: ev.Task.TID, UID: ev.Task.UID,
		FirstSent: ev.FirstSent, FirstReceived: ev.FirstReceived, SndNxt: ev.SndNxt, Unsent: ev.UnsentBytes,
		LocalPort: ev.Local.Port(), RemotePort: ev.Remote.Port(), Accepted: ev.Flags.Has(events.Accepted), Before: ev.Before,
	}
	local, remote := ev.Local.Addr().As4(), ev.Remote.Addr().As4()
	copy(n.Local[:], local[:])
	copy(n.Remote[:], remote[:])
	copy(n.Comm[:], ev.Task.Comm)
	copy(n.Process[:], ev.Task.Comm)
	return n
}

// replyTo is a RST in reply to data for the orphan that a close left.
func replyTo(at uint64) events.Event {
	return events.Event{
		Kind: events.KindReply, MonoNS: at, Sock: 1, Local: here, Remote: there, Netns: 7,
		Flags: events.SentRST | events.Orphan, Before: events.FinWait2, After: events.FinWait2,
		SegmentBytes: 9, SegmentFlags: thACK, SegmentSeq: 2001, SegmentAck: 1002, FirstSent: 1000, FirstReceived: 2000,
	}
}

// endingsWith returns the endings of events, with notes in the kernel.
func endingsWith(notes []events.Note, since uint64, evs ...events.Event) (all []events.Ending) {
	c := New(testHeader)
	c.Notes = func(yield func(*events.Note)) uint64 {
		for i := range notes {
			yield(&notes[i])
		}
		notes = nil
		return since
	}
	keep := func(e *events.Ending) { all = append(all, *e) }
	for i := range evs {
		c.Push(&evs[i], keep)
	}
	c.Flush(keep)
	return all
}

// A client may have used its port again, and the server closed that connection as well, when a RST is read.
func TestNoteOfNextConnection(t *testing.T) {
	next := ordinaryClose(260 * noteTestMS)
	next.FirstSent, next.FirstReceived, next.SndNxt, next.Task = 500000, 600000, 500001, victim
	notes := []events.Note{noted(ordinaryClose(noteTestMS)), noted(next)}
	all := endingsWith(notes, 0, replyTo(251*noteTestMS))
	const want = "9 B arrived 250 ms after nginx[42] closed"
	if len(all) != 1 || all[0].Cause != want {
		t.Errorf("got %+v, want %q", all, want)
	}

	// A RST received waits for what sent it, until there is an event of the next connection.
	done := events.Event{
		Kind: events.KindDone, MonoNS: 251 * noteTestMS, Sock: 1, Local: here, Remote: there, Netns: 7, SockErr: econnreset,
		Flags: events.Orphan, Before: events.FinWait2, After: events.Close, FirstSent: 1000, FirstReceived: 2000,
	}
	ofNext := replyTo(261 * noteTestMS)
	ofNext.FirstSent, ofNext.FirstReceived = next.FirstSent, next.FirstReceived
	ofNext.SegmentSeq, ofNext.SegmentAck = next.FirstReceived+1, next.SndNxt+1
	all = endingsWith([]events.Note{notes[0], notes[1]}, 0, done, ofNext)
	if len(all) != 2 || all[0].Earlier == nil || all[1].Earlier == nil {
		t.Fatalf("got %+v", all)
	}
	if first, next := all[0].Earlier.Actor.Comm, all[1].Earlier.Actor.Comm; first != "nginx" || next != "victim" {
		t.Errorf("closed by %s and %s, want nginx and victim", first, next)
	}
}

// A RST in reply does not wait for the record of a close that was noted: meanwhile the next connection may end.
func TestReplyAfterNotedClose(t *testing.T) {
	late := replyTo(3 * noteTestMS)
	late.Sock, late.FirstSent, late.FirstReceived, late.Before = 0, 0, 0, events.TimeWait
	next := events.Event{
		Kind: events.KindDone, MonoNS: 5 * noteTestMS, Sock: 1, Local: here, Remote: there, Netns: 7, SockErr: econnreset,
		Before: events.Established, After: events.Close, FirstSent: 500_000, FirstReceived: 600_000,
	}
	freed := events.Event{Kind: events.KindPeerFIN, MonoNS: 6 * noteTestMS, Sock: 1, Local: there, Remote: here}
	all := endingsWith([]events.Note{noted(ordinaryClose(noteTestMS))}, 0, late, next, freed)
	const want = "9 B arrived 2 ms after nginx[42] closed"
	if len(all) != 3 || all[0].Cause != want {
		t.Errorf("got %+v, want %q", all, want)
	}
}

// What a close explains is the same whether it was reported or noted.
func TestNotedCloseExplains(t *testing.T) {
	done := events.Event{
		Kind: events.KindDone, MonoNS: 251 * noteTestMS, Sock: 1, Local: here, Remote: there, Netns: 7, SockErr: econnreset,
		Flags: events.Orphan, Before: events.FinWait2, After: events.Close, FirstSent: 1000, FirstReceived: 2000,
	}
	for name, later := range map[string]events.Event{"reply": replyTo(251 * noteTestMS), "RST received": done} {
		t.Run(name, func(t *testing.T) {
			reported := endingsWith(nil, 0, ordinaryClose(noteTestMS), later)
			noted := endingsWith([]events.Note{noted(ordinaryClose(noteTestMS))}, 0, later)
			if len(reported) != 2 || len(noted) != 1 {
				t.Fatalf("%d and %d endings", len(reported), len(noted))
			}
			if !reflect.DeepEqual(reported[1], noted[0]) {
				t.Errorf("reported %+v\nnoted    %+v", reported[1], noted[0])
			}
			if !strings.Contains(noted[0].Cause, "250 ms after "+closer.Comm) || noted[0].Owner == nil {
				t.Errorf("cause %q, owner %v", noted[0].Cause, noted[0].Owner)
			}
		})
	}
}

// A close that cannot be the one before explains nothing: of another connection of the same addresses, or later.
func TestNotedCloseOfAnother(t *testing.T) {
	another := ordinaryClose(noteTestMS)
	another.FirstSent, another.FirstReceived = 500_000, 600_000
	for name, note := range map[string]events.Event{"another": another, "later": ordinaryClose(300 * noteTestMS)} {
		got := endingsWith([]events.Note{noted(note)}, 0, replyTo(251*noteTestMS))
		if len(got) != 1 || got[0].Earlier != nil || strings.Contains(got[0].Cause, "note") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Where notes were overwritten, a close that is not found is said not to be kept.
func TestNoteNotKept(t *testing.T) {
	got := endingsWith(nil, 200*noteTestMS, replyTo(251*noteTestMS))
	if len(got) != 1 || !strings.Contains(got[0].Cause, "the note of that close was not kept") {
		t.Errorf("%+v", got)
	}
}

// A noted close ends what is remembered of its socket, and no more than that.
func TestNotedCloseEndsSocket(t *testing.T) {
	read := events.Event{
		Kind: events.KindShutdown, MonoNS: 5 * noteTestMS, Sock: 1, Local: here, Remote: there, Netns: 7, Task: closer,
		Flags: inTask | events.ReachedTCP, How: 1, Before: events.Established, After: events.Established,
	}
	closing := events.Event{
		Kind: events.KindClose, MonoNS: 90 * noteTestMS, Sock: 1, Local: here, Remote: there, Netns: 7, Task: closer,
		Flags: inTask | events.UnderLock, Before: events.Close, After: events.Close, FirstReceived: 1,
	}
	for name, tt := range map[string]struct {
		notes   []events.Note
		since   uint64
		earlier bool
	}{
		"no close between":     {nil, 0, true},
		"a close between":      {[]events.Note{noted(ordinaryClose(50 * noteTestMS))}, 0, false},
		"a close before":       {[]events.Note{noted(ordinaryClose(noteTestMS))}, 0, true},
		"perhaps one between":  {nil, 60 * noteTestMS, false},
		"certainly none after": {nil, 2 * noteTestMS, true},
	} {
		got := endingsWith(tt.notes, tt.since, read, closing)
		if last := got[len(got)-1]; (last.Earlier != nil) != tt.earlier {
			t.Errorf("%s: earlier %+v", name, last.Earlier)
		}
	}
}

// It does so also if its note was read for another ending, before the event that comes before it.
func TestNoteReadBeforeEvent(t *testing.T) {
	shared := events.Event{
		Kind: events.KindShared, MonoNS: 5 * noteTestMS, Sock: 1, Local: here, Remote: there, Netns: 7, Task: closer,
		Flags: events.TaskContext, Syscall: "close", References: 1, Before: events.Established, After: events.Established,
	}
	other := replyTo(4 * noteTestMS)
	other.Sock, other.Local = 2, netip.AddrPortFrom(here.Addr(), 444)
	next := ordinaryClose(90 * noteTestMS)
	next.FirstSent, next.FirstReceived, next.Flags = 500_000, 600_000, next.Flags|events.LingerOn
	got := endingsWith([]events.Note{noted(ordinaryClose(6 * noteTestMS))}, 0, other, shared, next)
	if last := got[len(got)-1]; len(got) != 3 || last.Earlier != nil {
		t.Errorf("%d endings, the last is %s, after %+v", len(got), last.Path, last.Earlier)
	}
}

// A close that waits behind the RST that ended its socket still rests on it, although an ordinary close of the next
// socket at its address was noted, or a RST ended that one, before the wait was over.
func TestNextSocketWhileCloseWaits(t *testing.T) {
	at := func(ev events.Event, port uint16) events.Event {
		ev.Remote = netip.AddrPortFrom(there.Addr(), port)
		ev.FirstSent, ev.FirstReceived = uint32(port)*10_000, uint32(port)*20_000
		return ev
	}
	ended := func(port uint16, monoNS uint64) events.Event {
		return at(events.Event{Kind: events.KindDone, MonoNS: monoNS, Sock: 1, Local: here, Netns: 7, SockErr: econnreset,
			Before: events.Established, After: events.Close}, port)
	}
	closed := func(port uint16, monoNS uint64) events.Event {
		return at(events.Event{Kind: events.KindClose, MonoNS: monoNS, Sock: 1, Local: here, Netns: 7, Task: closer,
			Flags: inTask, Before: events.Close, After: events.Close}, port)
	}
	notes := []events.Note{noted(at(ordinaryClose(20*noteTestMS), 5001))}
	for name, got := range map[string][]events.Ending{
		"noted": endingsWith(notes, 0, ended(5000, 9*noteTestMS), closed(5000, 10*noteTestMS)),
		"reset": endingsWith(nil, 0, ended(5000, 9*noteTestMS), closed(5000, 10*noteTestMS),
			ended(5001, 20*noteTestMS), closed(5001, 21*noteTestMS)),
	} {
		for _, e := range got {
			if e.Path == events.RecvRST || e.Path == events.ClosedReset && e.Cause == "connection reset 1 ms ago (recv.rst)" {
				continue
			}
			t.Errorf("%s: %s of %s: %q", name, e.Path, e.Remote, e.Cause)
		}
	}
}

// An event in CLOSE_WAIT says how long ago the FIN was received, if the kernel side has noted it.
func TestNotedPeerFIN(t *testing.T) {
	c := New(closeWaitHeader())
	c.PeerFIN = func(ev *events.Event) (uint64, bool) { return ev.MonoNS - 12e9, ev.Sock == 1 }
	var got []events.Ending
	closing := answer(events.KindClose, 30*time.Second, inTask|events.SentFIN)
	c.Push(&closing, func(e *events.Ending) { got = append(got, *e) })
	c.Flush(func(e *events.Ending) { got = append(got, *e) })
	if len(got) != 1 || got[0].Evidence.PeerFINAgo != 12*time.Second {
		t.Errorf("%+v", got)
	}
}
