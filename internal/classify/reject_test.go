package classify

import (
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// rejected is a segment from there to here that a rule of netfilter answers.
func rejected(hook string) events.Event {
	return events.Event{
		Kind: events.KindReject, Flags: events.SentRST, Local: here, Remote: there, Netns: 7, NetfilterHook: hook,
		SegmentBytes: 5, SegmentFlags: thACK, SegmentSeq: isnThere + 51, SegmentAck: wrapped(isnHere, 101),
	}
}

// A RST of netfilter is a path of its own, and no counter of TCP moves.
func TestReject(t *testing.T) {
	forward := rejected("FORWARD")
	forward.SegmentBytes, forward.SegmentFlags = 0, thSYN
	for want, ev := range map[string]events.Event{
		"netfilter's REJECT in INPUT rejects 5 B": rejected("INPUT"),
		"netfilter's REJECT in FORWARD rejects a SYN; " +
			"the RST bears the destination's address, and the destination did not send it": forward,
	} {
		e := last(t, ev)
		if e.Path != events.ReplyNetfilter || e.Cause != want || e.Doubt != "" || !e.RST || e.Actor != nil ||
			e.Trigger != events.TriggerSegment || e.Evidence.NetfilterHook != ev.NetfilterHook || e.Local != here {
			t.Errorf("got %s, %q, doubt %q, %+v", e.Path, e.Cause, e.Doubt, e)
		}
		var moved events.Moved
		if moved.Add(&e); moved != (events.Moved{}) {
			t.Errorf("counters: %v", moved.Map())
		}
	}
}

// The line of the end that gets the RST of netfilter says where the rule is. What this side did with the connection
// before stays known.
func TestResetByRule(t *testing.T) {
	e := last(t, rejected("OUTPUT"), numberedThere(gotRST(1)))
	const want = "; sent by netfilter's REJECT in OUTPUT of network namespace 7 (reply.netfilter)"
	if e.Path != events.RecvRST || !strings.HasSuffix(e.Cause, want) || e.Doubt != "" ||
		e.Peer == nil || e.Peer.Path != events.ReplyNetfilter || e.Peer.Actor != nil {
		t.Errorf("got %s, %q, doubt %q, peer %+v", e.Path, e.Cause, e.Doubt, e.Peer)
	}
	other := rejected("OUTPUT")
	other.SegmentAck++
	if e := last(t, other, numberedThere(gotRST(1))); e.Peer != nil {
		t.Errorf("of another connection: %q", e.Cause)
	}
	closed, between, after := closedBy(0), rejected("INPUT"), late(5)
	between.Netns, between.MonoNS, after.MonoNS = closed.Netns, closed.MonoNS+1, closed.MonoNS+2
	if e := last(t, closed, between, after); e.Earlier == nil || e.Earlier.Path == events.ReplyNetfilter {
		t.Errorf("forgot the close of this side: %q", e.Cause)
	}
}

// An end that is open sent no RST. If none is on record either, neither end did.
func TestResetByNeitherEnd(t *testing.T) {
	got := gotRST(1)
	got.Sock = 9
	got.OtherEnd = &events.OtherEnd{State: events.Established, Owner: &events.Task{PID: 4211, Comm: "python3"}}
	const want = "; sent by netfilter, XDP or a raw socket: " +
		"the other end (python3[4211]) is still ESTABLISHED and sent no RST"
	e := last(t, got)
	if e.Path != events.RecvRST || !strings.HasSuffix(e.Cause, want) || e.Confidence() != "inferred" || e.Peer != nil {
		t.Errorf("got %s, %q, doubt %q, peer %+v", e.Path, e.Cause, e.Doubt, e.Peer)
	}
	closed := events.Event{
		Kind: events.KindClose, Sock: 9, Local: got.Local, Remote: got.Remote, Netns: got.Netns, MonoNS: got.MonoNS + 1,
		Before: events.Close, After: events.Close, Flags: inTask | events.UnderLock,
	}
	if e := last(t, got, closed); e.Path != events.ClosedReset || e.Doubt != "" {
		t.Errorf("the close after it: %s, doubt %q", e.Path, e.Doubt)
	}
	got.OtherEnd.Owner = nil
	if e := last(t, got); !strings.HasSuffix(e.Cause, ": the other end is still ESTABLISHED and sent no RST") {
		t.Errorf("without an owner: %q", e.Cause)
	}
	rule := numberedThere(got)
	if e := last(t, rejected("INPUT"), rule); !strings.Contains(e.Cause, "REJECT in INPUT") || e.Doubt != "" ||
		strings.Contains(e.Cause, "sent no RST") {
		t.Errorf("where the rule is on record: %q, doubt %q", e.Cause, e.Doubt)
	}
	for missing, ev := range map[bool]events.Event{
		true:  lossOf(0, got.MonoNS+1),
		false: lossOf(got.MonoNS+uint64(ownerWindow)+1, got.MonoNS+uint64(ownerWindow)+2),
	} {
		if e := last(t, ev, got); strings.Contains(e.Cause, "sent no RST") == missing {
			t.Errorf("something of that time is missing %v: %q", missing, e.Cause)
		}
	}
	got.SockErr = etimedout
	if e := last(t, got); strings.Contains(e.Cause, "sent no RST") {
		t.Errorf("without a RST: %s, %q", e.Path, e.Cause)
	}
}
