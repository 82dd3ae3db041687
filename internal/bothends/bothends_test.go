package bothends

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

var (
	client  = netip.MustParseAddrPort("10.0.0.5:33042")
	server  = netip.MustParseAddrPort("10.0.0.9:443")
	gateway = netip.MustParseAddrPort("192.0.2.1:61000")
	service = netip.MustParseAddrPort("10.96.0.1:80")

	loopback443 = netip.MustParseAddrPort("127.0.0.1:443")
	loopback5   = netip.MustParseAddrPort("127.0.0.1:5")

	nginx = &events.Task{PID: 4211, Comm: "nginx"}
	app   = &events.Task{PID: 977, Comm: "app"}
)

const (
	begin = 1795893703e9 // nanoseconds since 1970
	boot  = 1000e9       // CLOCK_MONOTONIC at that time
)

// of returns a recording of a host whose wall clock is wrong by some time.
func of(host, bootID string, wrong time.Duration) Recording {
	h := events.Header{Host: host, BootID: bootID, WallOffsetNS: begin - boot + int64(wrong)}
	return Recording{Name: host + ".rec", Header: h}
}

// added is an ending of one of the recordings.
type added struct {
	recording int
	at        time.Duration // by a right clock
	events.Ending
}

// run joins endings, and returns the causes of all that are shown.
func run(recordings []Recording, all ...added) (*Result, []events.Ending) {
	j := New(recordings)
	numbers := make([]int, len(all))
	next := make([]int, len(recordings))
	for i := range all {
		e := &all[i]
		e.MonoNS = uint64(boot + int64(e.at))
		e.Time = time.Unix(0, int64(e.MonoNS)+recordings[e.recording].Header.WallOffsetNS)
		numbers[i] = next[e.recording]
		next[e.recording]++
		j.Add(e.recording, &e.Ending)
	}
	r := j.Conclude()
	var shown []events.Ending
	for i := range all {
		if r.Complete(all[i].recording, numbers[i], &all[i].Ending) {
			shown = append(shown, all[i].Ending)
		}
	}
	return r, shown
}

// closed is the close of a server with unread data, and reset what its client gets of it.
func closed(recording int, at time.Duration) added {
	return added{recording, at, events.Ending{
		Path: events.CloseRSTUnread, Trigger: events.TriggerClose, Actor: nginx, Cause: "148 B unread in the receive queue",
		Local: server, Remote: client, RST: true, Before: events.Established, After: events.Close, ConnectionID: 7,
		Evidence: events.Evidence{UnreadBytes: 148, SndNxt: 5000, RcvNxt: 9149},
	}}
}

func reset(recording int, at time.Duration) added {
	return added{recording, at, events.Ending{
		Path: events.RecvRST, Trigger: events.TriggerSegment, Owner: app, Cause: "ECONNRESET",
		Local: client, Remote: server, Before: events.Established, After: events.Close, ConnectionID: 7,
		Evidence: events.Evidence{SndNxt: 9149, RcvNxt: 5000, SegmentSeq: 5000, SockErr: 104},
	}}
}

// with changes an ending.
func (a added) with(change func(*events.Ending)) added {
	change(&a.Ending)
	return a
}

func plain(e *events.Ending) { e.ConnectionID = 0 }

func noNumbers(e *events.Ending) {
	e.ConnectionID, e.Evidence.SndNxt, e.Evidence.RcvNxt, e.Evidence.SegmentSeq = 0, 0, 0, 0
}

func from(local, remote netip.AddrPort) func(*events.Ending) {
	return func(e *events.Ending) { e.Local, e.Remote = local, remote }
}

// answer is a RST in reply to data without a socket.
func answer(recording int, at time.Duration) added {
	return added{recording, at, events.Ending{
		Path: events.ReplyNoSocket, Trigger: events.TriggerSegment, Cause: "9 B arrived", Local: server, Remote: client, RST: true,
		Evidence: events.Evidence{SegmentSeq: 9140, SegmentAck: 5000, SegmentBytes: 9},
	}}
}

const us = time.Microsecond

func TestJoin(t *testing.T) {
	two := []Recording{of("a", "1", 0), of("b", "2", 3*time.Second)}
	refused := reset(0, 50*us).with(func(e *events.Ending) {
		plain(e)
		e.Before, e.Evidence = events.SynSent, events.Evidence{SndNxt: 9001, SegmentAck: 9001}
	})
	syn := answer(1, 0).with(func(e *events.Ending) { e.Evidence = events.Evidence{SegmentSeq: 9000} })
	for name, tt := range map[string]struct {
		recordings []Recording
		endings    []added
		joined     int
		ambiguous  int
		cause      string // of the last ending
	}{
		"a reset": {
			two, []added{closed(1, 0), reset(0, 400*us)}, 1, 0,
			"ECONNRESET; host b: nginx[4211] closed with 148 B unread",
		},
		"through NAT at both ends": {
			two, []added{
				closed(1, 0).with(from(server, gateway)), reset(0, 400*us).with(from(client, service)),
			}, 1, 0, "ECONNRESET; host b: nginx[4211] closed with 148 B unread",
		},
		"of another connection": {
			two, []added{closed(1, 0).with(func(e *events.Ending) { e.ConnectionID = 8 }), reset(0, 400*us)}, 0, 0, "ECONNRESET",
		},
		"both ends on one host": {
			two, []added{closed(1, 0), reset(1, 400*us)}, 0, 0, "ECONNRESET",
		},
		"three ends": {
			two, []added{closed(1, 0), closed(0, 0).with(from(server, gateway)), reset(0, 400*us)}, 0, 1, "ECONNRESET",
		},
		"one end twice, of unknown hosts": {
			[]Recording{of("", "", 0), of("", "", time.Second)}, []added{reset(0, 0), reset(1, 5*us)}, 0, 1, "ECONNRESET",
		},
		"a RST in reply, by its number": {
			two, []added{
				closed(1, 0).with(func(e *events.Ending) { e.ConnectionID = 9 }),
				reset(0, 400*us).with(func(e *events.Ending) { e.ConnectionID, e.Evidence.SegmentSeq = 9, 0 }),
				answer(1, -3*time.Second), reset(0, 400*us),
			}, 2, 0,
			"ECONNRESET; host b: reply.nosocket",
		},
		"refused": {two, []added{syn, refused}, 1, 0, "ECONNRESET; host b: reply.nosocket"},
		"refused, behind NAT": {
			[]Recording{two[0], of("b", "2", 0)},
			[]added{syn.with(from(server, gateway)), refused}, 1, 0, "ECONNRESET; host b: reply.nosocket",
		},
		"refused, with nothing but a number": {
			[]Recording{two[0], of("b", "2", 0)},
			[]added{syn.with(from(server, gateway)), refused.with(from(client, service))}, 0, 0, "ECONNRESET",
		},
		"by addresses, as there are no numbers": {
			[]Recording{two[0], of("b", "2", time.Second)},
			[]added{closed(1, 0).with(noNumbers), reset(0, 400*us).with(noNumbers)}, 1, 0,
			"ECONNRESET; host b: nginx[4211] closed with 148 B unread",
		},
		"by addresses, too far apart": {
			two, []added{closed(1, time.Second).with(noNumbers), reset(0, 400*us).with(noNumbers)}, 0, 0, "ECONNRESET",
		},
		"by addresses, which were used twice": {
			[]Recording{two[0], of("b", "2", 0)}, []added{
				closed(1, 0).with(noNumbers), closed(1, time.Second).with(noNumbers), reset(0, 400*us).with(noNumbers),
			}, 0, 1, "ECONNRESET",
		},
		"by addresses, with other numbers": {
			two, []added{
				closed(1, 0).with(func(e *events.Ending) { e.ConnectionID, e.Evidence.RcvNxt = 0, 1<<30 }),
				reset(0, 400*us).with(plain),
			}, 0, 0, "ECONNRESET",
		},
		"loopback addresses": {
			two, []added{
				closed(1, 0).with(noNumbers).with(from(loopback443, loopback5)),
				reset(0, 0).with(noNumbers).with(from(loopback5, loopback443)),
			}, 0, 0, "ECONNRESET",
		},
		"after the other end had a cause here": {
			two, []added{closed(1, 0), reset(0, 400*us).with(func(e *events.Ending) { e.Peer = &events.Past{Path: "x"} })}, 1, 0,
			"ECONNRESET",
		},
		"a middlebox": {
			append(two[:2:2], of("c", "3", 0)), []added{
				{2, 0, events.Ending{
					Path: events.ReplyNetfilter, Trigger: events.TriggerSegment, Local: server, Remote: client, RST: true,
					Evidence: events.Evidence{SegmentSeq: 9140, SegmentAck: 5000, SegmentBytes: 9, NetfilterHook: "FORWARD"},
				}}, reset(0, 400*us),
			}, 0, 0, "ECONNRESET; host c: netfilter's REJECT in FORWARD",
		},
	} {
		r, shown := run(tt.recordings, tt.endings...)
		if r.Joined != tt.joined || r.Ambiguous != tt.ambiguous {
			t.Errorf("%s: %d joined, %d ambiguous, want %d, %d", name, r.Joined, r.Ambiguous, tt.joined, tt.ambiguous)
		}
		if got := shown[len(shown)-1].Cause; got != tt.cause {
			t.Errorf("%s: %q, want %q", name, got, tt.cause)
		}
	}
}

// pairs returns connections that measure the clocks of two hosts: each end closes some, and segments take some time.
func pairs(a, b int, ways ...time.Duration) (all []added) {
	for i, way := range ways {
		id := uint64(100 + 1000*a + 10*b + i)
		at := time.Duration(i) * time.Second
		number := func(e *events.Ending) { e.ConnectionID = id }
		if i%2 == 0 {
			all = append(all, closed(b, at).with(number), reset(a, at+way).with(number))
		} else {
			all = append(all, closed(a, at).with(number), reset(b, at+way).with(number))
		}
	}
	return all
}

// The clocks are compared by the median of the pairs. A host without a pair with the first one is compared with a
// third.
func TestClocks(t *testing.T) {
	recordings := []Recording{
		of("a", "1", 0), of("b", "2", 3*time.Second), of("c", "3", -time.Hour), of("d", "4", time.Minute),
	}
	all := pairs(0, 1, 100*us, 120*us, 300*time.Millisecond, 100*us, 110*us, 90*us)
	all = append(all, pairs(1, 2, 50*us, 50*us)...)
	all = append(all, closed(1, time.Minute), reset(0, time.Minute+400*us))
	r, shown := run(recordings, all...)
	for i, want := range []struct {
		ahead   time.Duration
		samples int
	}{{0, 0}, {3 * time.Second, 7}, {-time.Hour, 2}, {0, 0}} {
		c := r.Clocks[i]
		if off := c.Ahead - want.ahead; off.Abs() > 200*us || c.Samples != want.samples || c.Spread > time.Millisecond {
			t.Errorf("%+v, want %s ahead by %d samples", c, want.ahead, want.samples)
		}
	}
	for i := range shown { // by the clock of a
		right := time.Unix(0, begin).Add(all[i].at)
		if off := shown[i].Time.Sub(right); off.Abs() > 300*us {
			t.Errorf("ending %d of %s is shown %s too late", i, shown[i].Host.Label, off)
		}
	}
	last := shown[len(shown)-1]
	const cause = "; host b: nginx[4211] closed with 148 B unread 0.3 ms before"
	if !strings.HasSuffix(last.Cause, cause) || last.Peer == nil ||
		last.Peer.Host.Name != "b" || last.Peer.AgoNS == 0 || last.Peer.Actor != nginx {
		t.Errorf("%q, peer %+v", last.Cause, last.Peer)
	}
	sent := shown[len(shown)-2]
	if !strings.HasSuffix(sent.Cause, "; host a: RST received by app[977] 0.3 ms later") || sent.Peer != nil {
		t.Errorf("%q, peer %+v", sent.Cause, sent.Peer)
	}
}

// A round-trip time that was measured tells how long a segment was on its way, where all went in one direction.
func TestOneDirection(t *testing.T) {
	var all []added
	for i := range 5 {
		at := time.Duration(i) * time.Second
		number := func(e *events.Ending) { e.ConnectionID, e.Evidence.SRTT = uint64(i+1), 80*time.Millisecond }
		all = append(all, closed(1, at).with(number), reset(0, at+40*time.Millisecond).with(number))
	}
	r, shown := run([]Recording{of("a", "1", 0), of("b", "2", time.Hour)}, all...)
	if r.Clocks[1].Ahead != time.Hour {
		t.Errorf("%s ahead", r.Clocks[1].Ahead)
	}
	if got := shown[1].Cause; !strings.HasSuffix(got, " 40.0 ms before") {
		t.Errorf("%q", got)
	}
}

// A FIN is joined with what answers it, and a timer with what the other end did before.
func TestOtherCauses(t *testing.T) {
	fin := closed(1, 0).with(func(e *events.Ending) {
		e.Path, e.RST, e.FIN, e.After = events.CloseFINActive, false, true, events.FinWait1
	})
	passive := reset(0, 30*time.Millisecond).with(func(e *events.Ending) {
		e.Path, e.Trigger, e.Actor, e.Owner = events.CloseFINPassive, events.TriggerClose, app, nil
		e.Before, e.After, e.FIN, e.Evidence.PeerFINAgo = events.CloseWait, events.LastAck, true, 29*time.Millisecond
	})
	killed := closed(1, 0).with(func(e *events.Ending) { e.Trigger, e.Signal = events.TriggerSignal, 9 })
	timer := reset(0, 15*time.Minute).with(func(e *events.Ending) {
		e.Path, e.Trigger, e.Cause = events.AbortRetransTimeout, events.TriggerTimer, "no ACK"
	})
	two := []Recording{of("a", "1", 0), of("b", "2", 0)}
	for want, all := range map[string][]added{
		"ECONNRESET; host b: nginx[4211] closed (close.fin.active) 30.0 ms before":         {fin, passive},
		"no ACK; host b: nginx[4211] was killed by SIGKILL with 148 B unread 15m0s before": {killed, timer},
	} {
		_, shown := run(two, append(pairs(0, 1, 0, 0, 0, 0), all...)...)
		if got := shown[len(shown)-1].Cause; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// What two recordings of one host have is shown once; their clock is one, also where the wall clock was set in between.
func TestOneHostTwice(t *testing.T) {
	again := func(at time.Duration) added { return closed(1, at) }
	recordings := []Recording{of("a", "1", 0), of("a", "1", time.Minute), of("b", "2", 5*time.Second)}
	r, shown := run(recordings, closed(0, 0), again(3*us), closed(0, time.Second), again(2*time.Second), reset(2, 400*us))
	if r.Twice != 1 || len(shown) != 4 || len(r.Clocks) != 2 || r.Joined != 1 {
		t.Errorf("%d twice, %d shown, %d clocks, %d joined", r.Twice, len(shown), len(r.Clocks), r.Joined)
	}
	if off := shown[2].Time.Sub(shown[0].Time); off != 2*time.Second {
		t.Errorf("%s apart, want 2s", off)
	}
	// An end that sends several RSTs within a millisecond sent them all.
	r, shown = run(recordings[:2], answer(0, 0), answer(0, 10*us), answer(1, 12*us), answer(1, 13*us), answer(1, 14*us))
	if r.Twice != 2 || len(shown) != 3 {
		t.Errorf("RSTs in reply: %d twice, %d shown", r.Twice, len(shown))
	}
	// So do two files of one old recording, which does not name its boot.
	r, shown = run([]Recording{of("", "", 0), of("", "", 0)}, closed(0, 0), closed(1, 0))
	if r.Twice != 1 || len(shown) != 1 {
		t.Errorf("an old recording: %d twice, %d shown", r.Twice, len(shown))
	}
}

// Two boots of a host, and hosts of one name, have two labels. Recordings that have nothing to do with each other are
// shown by their wall clocks.
func TestUnrelated(t *testing.T) {
	recordings := []Recording{of("a", "1", 0), of("a", "2", time.Hour), of("", "3", 0)}
	j := New(recordings)
	var labels []string
	for _, h := range j.Hosts() {
		labels = append(labels, h.Label)
	}
	if got := strings.Join(labels, " "); got != "a a/2 .rec" {
		t.Errorf("labels %q", got)
	}
	r, shown := run(recordings, closed(0, 0), reset(1, 0).with(func(e *events.Ending) { e.ConnectionID = 8 }))
	if r.Joined+r.Ambiguous != 0 || r.OneEnd != 2 || r.Clocks[1].Samples != 0 {
		t.Errorf("%+v", r)
	}
	if off := shown[1].Time.Sub(shown[0].Time); off != time.Hour {
		t.Errorf("%s apart", off)
	}
}

// An ending is not shown before its cause, however exact the clocks are.
func TestAfterItsCause(t *testing.T) {
	all := pairs(0, 1, 0, 0, 0, 0)
	all = append(all, closed(1, time.Minute), reset(0, time.Minute-100*us))
	r, shown := run([]Recording{of("a", "1", 0), of("b", "2", 0)}, all...)
	n := len(shown) - 1
	if at := r.After(&shown[n]); at.Before(shown[n-1].Time) || !shown[n].Time.Before(at) {
		t.Errorf("shown at %s, its cause at %s", at, shown[n-1].Time)
	}
}

// What is compared is bounded. The rest is shown.
func TestBound(t *testing.T) {
	j := New([]Recording{of("a", "1", 0), of("b", "2", 0)})
	j.limit = 1
	first, second := closed(1, 0), reset(0, 0)
	j.Add(1, &first.Ending)
	j.Add(0, &second.Ending)
	r := j.Conclude()
	if r.Beyond != 1 || r.Joined != 0 || !r.Complete(0, 0, &second.Ending) || second.Host.Label != "a" {
		t.Errorf("%+v", r)
	}
}
