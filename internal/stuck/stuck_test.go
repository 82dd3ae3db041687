package stuck

import (
	"iter"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sockets"
)

var (
	here  = netip.MustParseAddrPort("10.0.0.5:8080")
	there = netip.MustParseAddrPort("10.0.0.9:51234")
)

// parent holds descriptors, and so does its child, which is younger than what was
// heard last on any socket here.
var (
	parent = sockets.Holder{PID: 10, Comm: "server", FDs: []int{5}, Parent: 1, Age: time.Hour}
	child  = sockets.Holder{PID: 11, Comm: "worker", FDs: []int{5}, Parent: 10, Age: time.Second}
	old    = sockets.Holder{PID: 12, Comm: "worker", FDs: []int{5}, Parent: 10, Age: time.Hour}
)

func findAll(all []sockets.Socket, holders map[uint64][]sockets.Holder) []Finding {
	return Find(&sockets.Snapshot{Sockets: sockets.NewList(all...), Holders: sockets.HoldersOf(holders)})
}

func TestDiagnosis(t *testing.T) {
	const heard = time.Minute
	tests := []struct {
		name    string
		socket  sockets.Socket
		holders []sockets.Holder
		want    Diagnosis
		why     string
	}{
		{"accept queue", sockets.Socket{State: events.CloseWait, ReceiveQueue: 6}, nil,
			NeverAccepted, "never accepted; its listener is not visible"},
		{"leak", sockets.Socket{State: events.CloseWait, Inode: 1}, []sockets.Holder{parent},
			Leaked, "everything was read, including the EOF, but the socket is still open"},
		{"leak without a holder", sockets.Socket{State: events.CloseWait, Inode: 1}, nil,
			Leaked, "everything was read, including the EOF, but the socket is still open; its holder is not visible"},
		{"EOF unread", sockets.Socket{State: events.CloseWait, Inode: 1, ReceiveQueue: 1}, []sockets.Holder{parent},
			NotReading, "only the EOF is unread"},
		{"EOF unread, without a holder", sockets.Socket{State: events.CloseWait, Inode: 1, ReceiveQueue: 1}, nil,
			NotReading, "only the EOF is unread; its holder is not visible"},
		{"unread", sockets.Socket{State: events.CloseWait, Inode: 1, ReceiveQueue: 1501}, []sockets.Holder{parent},
			NotReading, "1,500 B and the EOF are unread"},
		{
			"unread by both",
			sockets.Socket{State: events.CloseWait, Inode: 1, ReceiveQueue: 11},
			[]sockets.Holder{parent, child},
			NotReading,
			"10 B and the EOF are unread",
		},
		{"unread without EOF", sockets.Socket{State: events.FinWait2, Inode: 1, ReceiveQueue: 5}, []sockets.Holder{parent},
			NotReading, "5 B unread"},
		{
			"sending",
			sockets.Socket{State: events.CloseWait, Inode: 1, SendQueue: 1000, NotSent: 600},
			[]sockets.Holder{parent},
			BusySending,
			"600 B unsent, 400 B unacknowledged; no retransmission yet",
		},
		{
			"sending and not reading",
			sockets.Socket{State: events.CloseWait, Inode: 1, SendQueue: 10, ReceiveQueue: 1, Retries: 1},
			[]sockets.Holder{parent},
			BusySending,
			"0 B unsent, 10 B unacknowledged after 1 retransmission; EOF unread",
		},
		{"orphan sending", sockets.Socket{State: events.FinWait1, SendQueue: 11, NotSent: 6, Retries: 3}, nil,
			BusySending, "closed on this side; 5 B unsent, 5 B unacknowledged after 3 retransmissions"},
		{
			"window closed",
			sockets.Socket{State: events.CloseWait, Inode: 1, SendQueue: 9, NotSent: 9, WindowClosed: true},
			[]sockets.Holder{parent},
			BusySending,
			"9 B unsent, 0 B unacknowledged; the peer's receive window is closed, no window probe yet",
		},
		{
			"orphan, probed",
			sockets.Socket{State: events.FinWait1, SendQueue: 9, NotSent: 9, WindowClosed: true, Backoff: 4},
			nil,
			BusySending,
			"closed on this side; 8 B unsent, 0 B unacknowledged; the peer's receive window is closed, the kernel probes it",
		},
		{
			"orphan that cannot send, window open",
			sockets.Socket{State: events.FinWait1, SendQueue: 9, NotSent: 9, Backoff: 4},
			nil,
			BusySending,
			"closed on this side; 8 B unsent, 0 B unacknowledged; no retransmission yet",
		},
		{
			"window full, not acknowledged",
			sockets.Socket{State: events.FinWait1, SendQueue: 9, NotSent: 4, WindowClosed: true, Backoff: 4, Retries: 4},
			nil,
			BusySending,
			"closed on this side; 3 B unsent, 5 B unacknowledged after 4 retransmissions",
		},
		{"FIN, window closed", sockets.Socket{State: events.LastAck, SendQueue: 1, NotSent: 1, WindowClosed: true, Backoff: 1},
			nil, PeerSilent, "FIN unsent; the peer's receive window is closed, the kernel probes it"},
		{"all acknowledged, window closed", sockets.Socket{State: events.CloseWait, Inode: 1, WindowClosed: true, Backoff: 1},
			[]sockets.Holder{parent}, Leaked, "everything was read, including the EOF, but the socket is still open"},
		{"both", sockets.Socket{State: events.CloseWait, Inode: 1}, []sockets.Holder{parent, child},
			ForkedChild, "shared by a parent and its child; it closes when both have closed it: server[10], worker[11]"},
		{"child alone", sockets.Socket{State: events.CloseWait, Inode: 1, ReceiveQueue: 1}, []sockets.Holder{child},
			ForkedChild, "inherited: every holder started after the connection: worker[11]"},
		{"two old ones", sockets.Socket{State: events.CloseWait, Inode: 1}, []sockets.Holder{{PID: 9, Age: time.Hour}, old},
			Leaked, "everything was read, including the EOF, but the socket is still open"},
		{"FIN", sockets.Socket{State: events.FinWait1, SendQueue: 1}, nil,
			PeerSilent, "FIN unacknowledged; no retransmission yet"},
		{
			"FIN of an orphan whose EOF was not read",
			sockets.Socket{State: events.LastAck, SendQueue: 1, ReceiveQueue: 1, Retries: 2},
			nil,
			PeerSilent,
			"FIN unacknowledged after 2 retransmissions",
		},
		{"half closed", sockets.Socket{State: events.FinWait2, Inode: 1}, []sockets.Holder{parent},
			PeerOpen, "shut down for writing, the peer has not closed; no timer ends it"},
		{"orphan", sockets.Socket{State: events.FinWait2}, nil,
			PeerOpen, "closed on this side, the peer has not closed; a timer will end it"},
		{"mini", sockets.Socket{State: events.FinWait2, Mini: true, TimeLeft: 42 * time.Second}, nil,
			PeerOpen, "closed on this side, the peer has not closed; the kernel removes it in 42s"},
	}
	for _, tt := range tests {
		tt.socket.Local, tt.socket.Remote, tt.socket.LastHeard = here, there, heard
		found := findAll([]sockets.Socket{tt.socket}, map[uint64][]sockets.Holder{1: tt.holders})
		if len(found) != 1 || found[0].Diagnosis != tt.want || found[0].Why != tt.why {
			t.Errorf("%s: got %+v", tt.name, found)
		}
	}
}

// A holder that started up to 50 ms after the last segment may be the one that accepted the connection: the clocks are
// that coarse. A later one inherited the socket.
func TestInherited(t *testing.T) {
	for later, want := range map[time.Duration]Diagnosis{
		0: Leaked, 49 * time.Millisecond: Leaked, 51 * time.Millisecond: ForkedChild, time.Second: ForkedChild,
	} {
		s := sockets.Socket{State: events.CloseWait, Inode: 1, LastHeard: time.Minute}
		holders := map[uint64][]sockets.Holder{1: {{PID: 7, Age: time.Minute - later}}}
		if got := findAll([]sockets.Socket{s}, holders)[0].Diagnosis; got != want {
			t.Errorf("started %s after the last segment: %s, want %s", later, got, want)
		}
	}
}

// A FIN does not count as a byte, neither that of the peer nor this side's.
func TestQueues(t *testing.T) {
	yes, no := true, false
	tests := []struct {
		socket                  sockets.Socket
		unread, unsent, unacked uint32
		eofRead                 *bool
	}{
		{sockets.Socket{State: events.CloseWait, Inode: 1, ReceiveQueue: 11, SendQueue: 5, NotSent: 5}, 10, 5, 0, &no},
		{sockets.Socket{State: events.CloseWait, Inode: 1}, 0, 0, 0, &yes},
		{sockets.Socket{State: events.CloseWait, ReceiveQueue: 1}, 0, 0, 0, &no},
		{sockets.Socket{State: events.FinWait2, Inode: 1, ReceiveQueue: 11}, 11, 0, 0, nil},
		{sockets.Socket{State: events.FinWait1, SendQueue: 1}, 0, 0, 0, nil},
		{sockets.Socket{State: events.FinWait1, SendQueue: 1, NotSent: 1}, 0, 0, 0, nil},
		{sockets.Socket{State: events.FinWait1, SendQueue: 11}, 0, 0, 10, nil},
		{sockets.Socket{State: events.LastAck, SendQueue: 11, NotSent: 4, ReceiveQueue: 1}, 0, 3, 7, nil},
		{sockets.Socket{State: events.Closing, Inode: 1, SendQueue: 1, ReceiveQueue: 3}, 2, 0, 0, &no},
		// read one after the other, they need not fit
		{sockets.Socket{State: events.FinWait1, SendQueue: 3, NotSent: 9}, 0, 8, 0, nil},
	}
	for _, tt := range tests {
		f := findAll([]sockets.Socket{tt.socket}, nil)[0]
		same := (f.EOFRead == nil) == (tt.eofRead == nil) && (f.EOFRead == nil || *f.EOFRead == *tt.eofRead)
		if f.Unread != tt.unread || f.Unsent != tt.unsent || f.Unacked != tt.unacked || !same {
			t.Errorf("%+v: got %+v", tt.socket, f)
		}
	}
}

func TestAge(t *testing.T) {
	const unknown = -1
	tests := []struct {
		socket sockets.Socket
		want   Milliseconds
	}{
		{sockets.Socket{State: events.CloseWait, LastHeard: time.Minute}, 60000},
		{sockets.Socket{State: events.FinWait2, LastHeard: time.Second}, 1000},
		{sockets.Socket{State: events.Closing, LastHeard: time.Second}, 1000},
		{sockets.Socket{State: events.FinWait2, Mini: true}, unknown},
		// A call brought these about; what was heard last says nothing.
		{sockets.Socket{State: events.LastAck, LastHeard: time.Minute, SendQueue: 1}, unknown},
		{
			sockets.Socket{
				State:     events.FinWait1,
				LastHeard: time.Minute,
				SendQueue: 2,
				RTO:       time.Second,
				Backoff:   3,
				Retries:   3,
			},
			unknown,
		},
		// 200, 400 and 800 ms are over
		{sockets.Socket{State: events.FinWait1, SendQueue: 1, RTO: 1600 * time.Millisecond, Backoff: 3, Retries: 3}, 1400},
	}
	for _, tt := range tests {
		f := findAll([]sockets.Socket{tt.socket}, nil)[0]
		if got := f.Age; (got == nil) != (tt.want == unknown) || got != nil && *got != tt.want {
			t.Errorf("%+v: got %v", tt.socket, f.Age)
		}
	}
}

// An observed change of state gives the age, whatever the numbers say.
func TestExactAge(t *testing.T) {
	all := []sockets.Socket{
		{State: events.LastAck, SendQueue: 1, InState: 90 * time.Second},
		{State: events.CloseWait, LastHeard: time.Minute, InState: 2 * time.Minute, Inode: 4},
		{State: events.CloseWait, LastHeard: time.Minute, Inode: 5},
		{State: events.FinWait2, Mini: true, InState: time.Second},
	}
	for i, want := range []Milliseconds{90000, 120000, -1, 1000} {
		f := findAll(all[i:i+1], nil)[0]
		switch {
		case want < 0 && f.Exact != nil:
			t.Errorf("%+v: exactly %v", all[i], *f.Exact)
		case want >= 0 && (f.Exact == nil || *f.Exact != want || f.Age == nil || *f.Age != want):
			t.Errorf("%+v: age %v, exactly %v, want %v", all[i], f.Age, f.Exact, want)
		}
	}
	groups := Groups(each(findAll(all[1:3], nil))).Groups
	if len(groups) != 1 || !groups[0].Exact || *groups[0].Oldest != 120000 {
		t.Errorf("the older one is exact: %+v", groups)
	}
}

// Sockets in other states are not reported.
func TestOthers(t *testing.T) {
	all := []sockets.Socket{
		{State: events.Established, Inode: 1},
		{State: events.TimeWait},
		{State: events.SynSent, Inode: 2},
		{State: events.Listen, Inode: 3},
		{State: events.CloseWait, Inode: 4},
		{State: events.CloseWait},
	}
	if found := findAll(all, nil); len(found) != 2 {
		t.Errorf("found %+v", found)
	}
	if w := WantHolders(sockets.NewList(all...)); w.Len() != 2 || !w.Has(3) || !w.Has(4) {
		t.Errorf("wants the holders of %v", w)
	}
}

func TestListener(t *testing.T) {
	listen := func(address string, inode uint64, queued uint32) sockets.Socket {
		return sockets.Socket{
			State:        events.Listen,
			Netns:        1,
			Local:        netip.MustParseAddrPort(address),
			Inode:        inode,
			ReceiveQueue: queued,
			SendQueue:    128,
		}
	}
	exact, anyIPv4, dual := listen("10.0.0.5:8080", 1, 3), listen("0.0.0.0:8080", 2, 2), listen("[::]:8080", 3, 1)
	elsewhere := listen("10.0.0.5:8080", 4, 9)
	elsewhere.Netns = 2
	tests := []struct {
		name  string
		doors []sockets.Socket
		want  string // its address; "": none
		other int
	}{
		{"none", nil, "", 0},
		{"exact", []sockets.Socket{anyIPv4, exact, dual}, "10.0.0.5:8080", 0},
		{"any", []sockets.Socket{anyIPv4}, "0.0.0.0:8080", 0},
		{"dual", []sockets.Socket{dual}, "[::]:8080", 0},
		{"empty ones have nothing", []sockets.Socket{listen("10.0.0.5:8080", 1, 0), dual}, "[::]:8080", 0},
		{"several", []sockets.Socket{listen("10.0.0.5:8080", 5, 1), exact}, "10.0.0.5:8080", 1},
		{
			"another namespace, port or address",
			[]sockets.Socket{elsewhere, listen("10.0.0.5:80", 6, 1), listen("10.0.0.6:8080", 6, 1)},
			"",
			0,
		},
	}
	for _, tt := range tests {
		stuck := sockets.Socket{State: events.CloseWait, Netns: 1, Local: here, Remote: there, ReceiveQueue: 1}
		found := findAll(append(tt.doors, stuck), map[uint64][]sockets.Holder{1: {parent}})
		l := found[0].Listener
		switch {
		case tt.want == "" && l == nil:
		case l == nil || l.Address.String() != tt.want || l.Others != tt.other:
			t.Errorf("%s: got %+v", tt.name, l)
		}
	}
	// An IPv4 listener does not accept IPv6.
	six := sockets.Socket{State: events.CloseWait, Netns: 1, Local: netip.MustParseAddrPort("[::1]:8080"), ReceiveQueue: 1}
	if l := findAll([]sockets.Socket{anyIPv4, six}, nil)[0].Listener; l != nil {
		t.Errorf("IPv6 at %+v", l)
	}
}

func TestGroups(t *testing.T) {
	leak := func(inode uint64, port uint16, heard time.Duration) sockets.Socket {
		remote := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.7"), port)
		return sockets.Socket{State: events.CloseWait, Local: here, Remote: remote, Inode: inode, LastHeard: heard}
	}
	all := []sockets.Socket{
		leak(1, 5432, time.Second),
		leak(1, 5432, time.Minute),
		leak(1, 6379, time.Hour),
		leak(2, 5432, time.Second),
	}
	holders := map[uint64][]sockets.Holder{1: {parent}, 2: {old}}
	before := Groups(each(findAll(all, holders)))
	if len(before.Groups) != 3 || before.MoreGroups != 0 || before.MoreSockets != 0 {
		t.Fatalf("got %+v", before)
	}
	if g := before.Groups[0]; g.Count != 2 || g.PID != 10 || g.Service != "10.0.0.7:5432" ||
		g.Oldest.Duration() != time.Minute {
		t.Errorf("the largest is %+v", g)
	}
	if g := before.Groups[1]; g.Count != 1 || g.Service != "10.0.0.7:6379" {
		t.Errorf("the oldest of the others is %+v", g)
	}

	// One more, none any more, and a new one.
	now := Groups(each(findAll([]sockets.Socket{all[0], all[0], all[0], all[3], leak(2, 80, 0)}, holders)))
	groups, by := now.Growth(before)
	want := map[string]int{"10/10.0.0.7:5432": 1, "10/10.0.0.7:6379": -1, "12/10.0.0.7:5432": 0, "12/10.0.0.7:80": 1}
	if len(groups) != len(want) {
		t.Fatalf("got %+v", groups)
	}
	for i, g := range groups {
		key := map[uint32]string{10: "10/", 12: "12/"}[g.PID] + g.Service
		if n, ok := want[key]; !ok || n != by[i] {
			t.Errorf("%s grew by %d", key, by[i])
		}
	}
	if last := groups[len(groups)-1]; last.Count != 0 || last.Why != "none left" {
		t.Errorf("the last is %+v", last)
	}
}

func TestAtLeast(t *testing.T) {
	snapshot := &sockets.Snapshot{Sockets: sockets.NewList(
		sockets.Socket{State: events.CloseWait, LastHeard: time.Minute},
		sockets.Socket{State: events.CloseWait}, sockets.Socket{State: events.LastAck},
		sockets.Socket{State: events.Established, LastHeard: time.Hour},
	)}
	if r := NewReport(snapshot, &Filter{}, 0); r.Len() != 3 || r.Hidden != 0 {
		t.Errorf("%d and %d without a limit", r.Len(), r.Hidden)
	}
	if r := NewReport(snapshot, &Filter{}, 60000); r.Len() != 1 || r.Hidden != 2 {
		t.Errorf("%d and %d with one", r.Len(), r.Hidden)
	}
}

// each returns the findings one after the other.
func each(found []Finding) iter.Seq[*Finding] {
	return func(yield func(*Finding) bool) {
		for i := range found {
			if !yield(&found[i]) {
				return
			}
		}
	}
}

// The oldest is the first; of several as old, and of those of unknown age, the one with the lowest addresses.
func TestOrder(t *testing.T) {
	at := func(port uint16, heard time.Duration, state events.State) sockets.Socket {
		return sockets.Socket{State: state, Local: netip.AddrPortFrom(here.Addr(), port), Remote: there, LastHeard: heard}
	}
	exact := at(7, time.Second, events.CloseWait)
	exact.InState = time.Hour
	six := at(1, time.Minute, events.CloseWait)
	six.Local = netip.AddrPortFrom(netip.IPv6Unspecified(), 1)
	found := findAll([]sockets.Socket{
		at(9, time.Minute, events.LastAck), at(8, time.Second, events.CloseWait), at(3, time.Minute, events.CloseWait), six,
		at(2, time.Minute, events.CloseWait), at(4, time.Hour, events.FinWait1), exact,
	}, nil)
	var ports []uint16
	for _, f := range found {
		ports = append(ports, f.Local.Port())
	}
	if want := []uint16{7, 2, 3, 1, 8, 4, 9}; !slices.Equal(ports, want) {
		t.Errorf("ports %v, want %v", ports, want)
	}
}

// Of too many groups the largest are kept, wherever their sockets are, and the others counted.
func TestManyGroups(t *testing.T) {
	var all []sockets.Socket
	add := func(port uint16, n int) {
		remote := netip.AddrPortFrom(there.Addr(), port)
		for range n {
			s := sockets.Socket{State: events.CloseWait, Local: here, Remote: remote, LastHeard: time.Duration(port)}
			all = append(all, s)
		}
	}
	for port := range uint16(3000) {
		add(port, 1+int(port)/2000)
	}
	before := Groups(each(findAll(all, nil)))
	if len(before.Groups) != mostGroups || before.MoreGroups != 2000 || before.MoreSockets != 2000 {
		t.Fatalf("%d groups, and %d with %d sockets", len(before.Groups), before.MoreGroups, before.MoreSockets)
	}
	for _, g := range before.Groups {
		if g.Count != 2 || g.Why == "" {
			t.Fatalf("of the largest: %+v", g)
		}
	}
	add(5, 9) // from the others to the largest
	now := Groups(each(findAll(all, nil)))
	groups, growth := now.Growth(before)
	if groups[0].Count != 10 || growth[0] != 9 || len(groups) != mostGroups {
		t.Errorf("%d groups, the first grew by %d: %+v", len(groups), growth[0], groups[0])
	}
	for i, n := range growth[1:] {
		if n != 0 {
			t.Errorf("group %d grew by %d", i+1, n)
		}
	}
}
