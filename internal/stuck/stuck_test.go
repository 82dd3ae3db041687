package stuck

import (
	"net/netip"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

var (
	here  = netip.MustParseAddrPort("10.0.0.5:8080")
	there = netip.MustParseAddrPort("10.0.0.9:51234")
)

// parent holds descriptors, and so does its child, which is younger than what was
// heard last on any socket here.
var (
	parent = Holder{PID: 10, Comm: "server", FDs: []int{5}, Parent: 1, Age: time.Hour}
	child  = Holder{PID: 11, Comm: "worker", FDs: []int{5}, Parent: 10, Age: time.Second}
	old    = Holder{PID: 12, Comm: "worker", FDs: []int{5}, Parent: 10, Age: time.Hour}
)

func TestDiagnosis(t *testing.T) {
	const heard = time.Minute
	tests := []struct {
		name    string
		socket  Socket
		holders []Holder
		want    Diagnosis
		why     string
	}{
		{"accept queue", Socket{State: events.CloseWait, ReceiveQueue: 6}, nil,
			NeverAccepted, "it was never accepted, and its listener is not seen"},
		{"leak", Socket{State: events.CloseWait, Inode: 1}, []Holder{parent},
			Leaked, "all was read, the EOF included, and it is not closed"},
		{"leak by nobody", Socket{State: events.CloseWait, Inode: 1}, nil,
			Leaked, "all was read, the EOF included, and it is not closed; no process is seen to hold it"},
		{"EOF unread", Socket{State: events.CloseWait, Inode: 1, ReceiveQueue: 1}, []Holder{parent},
			NotReading, "all but the EOF was read"},
		{"unread", Socket{State: events.CloseWait, Inode: 1, ReceiveQueue: 1501}, []Holder{parent},
			NotReading, "1,500 B and the EOF are not read"},
		{"unread by both", Socket{State: events.CloseWait, Inode: 1, ReceiveQueue: 11}, []Holder{parent, child},
			NotReading, "10 B and the EOF are not read"},
		{"unread without EOF", Socket{State: events.FinWait2, Inode: 1, ReceiveQueue: 5}, []Holder{parent},
			NotReading, "5 B are not read"},
		{"sending", Socket{State: events.CloseWait, Inode: 1, SendQueue: 1000, NotSent: 600}, []Holder{parent},
			BusySending, "600 B are not sent and 400 B not acknowledged; nothing had to be sent again"},
		{"sending and not reading", Socket{State: events.CloseWait, Inode: 1, SendQueue: 10, ReceiveQueue: 1, Retries: 1}, []Holder{parent},
			BusySending, "0 B are not sent and 10 B not acknowledged; sent again once without an answer; the EOF is not read"},
		{"orphan sending", Socket{State: events.FinWait1, SendQueue: 11, NotSent: 6, Retries: 3}, nil,
			BusySending, "it is closed here; 5 B are not sent and 5 B not acknowledged; sent again 3 times without an answer"},
		{"both", Socket{State: events.CloseWait, Inode: 1}, []Holder{parent, child},
			ForkedChild, "a child has it from its parent, and it ends when both have closed it: server[10], worker[11]"},
		{"child alone", Socket{State: events.CloseWait, Inode: 1, ReceiveQueue: 1}, []Holder{child},
			ForkedChild, "who holds it was started after the connection, and has it from another process: worker[11]"},
		{"two old ones", Socket{State: events.CloseWait, Inode: 1}, []Holder{{PID: 9, Age: time.Hour}, old},
			Leaked, "all was read, the EOF included, and it is not closed"},
		{"FIN", Socket{State: events.FinWait1, SendQueue: 1}, nil,
			PeerSilent, "all but the FIN is acknowledged; nothing had to be sent again"},
		{"FIN of an orphan whose EOF was not read", Socket{State: events.LastAck, SendQueue: 1, ReceiveQueue: 1, Retries: 2}, nil,
			PeerSilent, "all but the FIN is acknowledged; sent again 2 times without an answer"},
		{"half closed", Socket{State: events.FinWait2, Inode: 1}, []Holder{parent},
			PeerOpen, "it is shut down for writing, the peer has not closed; no timer ends it"},
		{"orphan", Socket{State: events.FinWait2}, nil,
			PeerOpen, "it is closed here, the peer has not closed; the kernel ends it after its time"},
		{"mini", Socket{State: events.FinWait2, Mini: true, TimeLeft: 42 * time.Second}, nil,
			PeerOpen, "it is closed here, the peer has not closed; the kernel forgets it in 42s"},
	}
	for _, tt := range tests {
		tt.socket.Local, tt.socket.Remote, tt.socket.LastHeard = here, there, heard
		found := Find([]Socket{tt.socket}, map[uint64][]Holder{1: tt.holders})
		if len(found) != 1 || found[0].Diagnosis != tt.want || found[0].Why != tt.why {
			t.Errorf("%s: got %+v", tt.name, found)
		}
	}
}

// A FIN is no byte, whosever it is.
func TestQueues(t *testing.T) {
	yes, no := true, false
	tests := []struct {
		socket                  Socket
		unread, unsent, unacked uint32
		eofRead                 *bool
	}{
		{Socket{State: events.CloseWait, Inode: 1, ReceiveQueue: 11, SendQueue: 5, NotSent: 5}, 10, 5, 0, &no},
		{Socket{State: events.CloseWait, Inode: 1}, 0, 0, 0, &yes},
		{Socket{State: events.CloseWait, ReceiveQueue: 1}, 0, 0, 0, &no},
		{Socket{State: events.FinWait2, Inode: 1, ReceiveQueue: 11}, 11, 0, 0, nil},
		{Socket{State: events.FinWait1, SendQueue: 1}, 0, 0, 0, nil},
		{Socket{State: events.FinWait1, SendQueue: 1, NotSent: 1}, 0, 0, 0, nil},
		{Socket{State: events.FinWait1, SendQueue: 11}, 0, 0, 10, nil},
		{Socket{State: events.LastAck, SendQueue: 11, NotSent: 4, ReceiveQueue: 1}, 0, 3, 7, nil},
		{Socket{State: events.Closing, Inode: 1, SendQueue: 1, ReceiveQueue: 3}, 2, 0, 0, &no},
		// read one after the other, they need not fit
		{Socket{State: events.FinWait1, SendQueue: 3, NotSent: 9}, 0, 8, 0, nil},
	}
	for _, tt := range tests {
		f := Find([]Socket{tt.socket}, nil)[0]
		same := (f.EOFRead == nil) == (tt.eofRead == nil) && (f.EOFRead == nil || *f.EOFRead == *tt.eofRead)
		if f.Unread != tt.unread || f.Unsent != tt.unsent || f.Unacked != tt.unacked || !same {
			t.Errorf("%+v: got %+v", tt.socket, f)
		}
	}
}

func TestAge(t *testing.T) {
	const unknown = -1
	tests := []struct {
		socket Socket
		want   Milliseconds
	}{
		{Socket{State: events.CloseWait, LastHeard: time.Minute}, 60000},
		{Socket{State: events.FinWait2, LastHeard: time.Second}, 1000},
		{Socket{State: events.Closing, LastHeard: time.Second}, 1000},
		{Socket{State: events.FinWait2, Mini: true}, unknown},
		// A call brought these about; what was heard last says nothing.
		{Socket{State: events.LastAck, LastHeard: time.Minute, SendQueue: 1}, unknown},
		{Socket{State: events.FinWait1, LastHeard: time.Minute, SendQueue: 2, RTO: time.Second, Backoff: 3, Retries: 3}, unknown},
		// 200, 400 and 800 ms are over
		{Socket{State: events.FinWait1, SendQueue: 1, RTO: 1600 * time.Millisecond, Backoff: 3, Retries: 3}, 1400},
	}
	for _, tt := range tests {
		f := Find([]Socket{tt.socket}, nil)[0]
		if got := f.Age; (got == nil) != (tt.want == unknown) || got != nil && *got != tt.want {
			t.Errorf("%+v: got %v", tt.socket, f.Age)
		}
	}
}

// What was seen to begin has an age, whatever its numbers say.
func TestExactAge(t *testing.T) {
	all := []Socket{
		{State: events.LastAck, SendQueue: 1, InState: 90 * time.Second},
		{State: events.CloseWait, LastHeard: time.Minute, InState: 2 * time.Minute, Inode: 4},
		{State: events.CloseWait, LastHeard: time.Minute, Inode: 5},
		{State: events.FinWait2, Mini: true, InState: time.Second},
	}
	for i, want := range []Milliseconds{90000, 120000, -1, 1000} {
		f := Find(all[i:i+1], nil)[0]
		switch {
		case want < 0 && f.Exact != nil:
			t.Errorf("%+v: exactly %v", all[i], *f.Exact)
		case want >= 0 && (f.Exact == nil || *f.Exact != want || f.Age == nil || *f.Age != want):
			t.Errorf("%+v: age %v, exactly %v, want %v", all[i], f.Age, f.Exact, want)
		}
	}
	if groups := Groups(Find(all[1:3], nil)); len(groups) != 1 || !groups[0].Exact || *groups[0].Oldest != 120000 {
		t.Errorf("the older one is exact: %+v", groups)
	}
}

// Other states are none of its business.
func TestOthers(t *testing.T) {
	all := []Socket{{State: events.Established, Inode: 1}, {State: events.TimeWait}, {State: events.SynSent, Inode: 2},
		{State: events.Listen, Inode: 3}, {State: events.CloseWait, Inode: 4}, {State: events.CloseWait}}
	if found := Find(all, nil); len(found) != 2 {
		t.Errorf("found %+v", found)
	}
	if w := Wanted(all); len(w) != 2 || !w[3] || !w[4] {
		t.Errorf("wants the holders of %v", w)
	}
}

func TestListener(t *testing.T) {
	listen := func(address string, inode uint64, queued uint32) Socket {
		return Socket{State: events.Listen, Netns: 1, Local: netip.MustParseAddrPort(address), Inode: inode, ReceiveQueue: queued, SendQueue: 128}
	}
	exact, anyIPv4, dual := listen("10.0.0.5:8080", 1, 3), listen("0.0.0.0:8080", 2, 2), listen("[::]:8080", 3, 1)
	elsewhere := listen("10.0.0.5:8080", 4, 9)
	elsewhere.Netns = 2
	tests := []struct {
		name  string
		doors []Socket
		want  string // its address; "": none
		other int
	}{
		{"none", nil, "", 0},
		{"exact", []Socket{anyIPv4, exact, dual}, "10.0.0.5:8080", 0},
		{"any", []Socket{anyIPv4}, "0.0.0.0:8080", 0},
		{"dual", []Socket{dual}, "[::]:8080", 0},
		{"empty ones have nothing", []Socket{listen("10.0.0.5:8080", 1, 0), dual}, "[::]:8080", 0},
		{"several", []Socket{listen("10.0.0.5:8080", 5, 1), exact}, "10.0.0.5:8080", 1},
		{"another namespace, port or address", []Socket{elsewhere, listen("10.0.0.5:80", 6, 1), listen("10.0.0.6:8080", 6, 1)}, "", 0},
	}
	for _, tt := range tests {
		stuck := Socket{State: events.CloseWait, Netns: 1, Local: here, Remote: there, ReceiveQueue: 1}
		found := Find(append(tt.doors, stuck), map[uint64][]Holder{1: {parent}})
		l := found[0].Listener
		switch {
		case tt.want == "" && l == nil:
		case l == nil || l.Address.String() != tt.want || l.Others != tt.other:
			t.Errorf("%s: got %+v", tt.name, l)
		}
	}
	// An IPv4 listener takes no IPv6.
	six := Socket{State: events.CloseWait, Netns: 1, Local: netip.MustParseAddrPort("[::1]:8080"), ReceiveQueue: 1}
	if l := Find([]Socket{anyIPv4, six}, nil)[0].Listener; l != nil {
		t.Errorf("IPv6 at %+v", l)
	}
}

func TestGroups(t *testing.T) {
	leak := func(inode uint64, port uint16, heard time.Duration) Socket {
		remote := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.7"), port)
		return Socket{State: events.CloseWait, Local: here, Remote: remote, Inode: inode, LastHeard: heard}
	}
	all := []Socket{leak(1, 5432, time.Second), leak(1, 5432, time.Minute), leak(1, 6379, time.Hour), leak(2, 5432, time.Second)}
	holders := map[uint64][]Holder{1: {parent}, 2: {old}}
	before := Groups(Find(all, holders))
	if len(before) != 3 {
		t.Fatalf("got %+v", before)
	}
	if g := before[0]; g.Count != 2 || g.PID != 10 || g.Service != "10.0.0.7:5432" || g.Oldest.Duration() != time.Minute {
		t.Errorf("the largest is %+v", g)
	}
	if g := before[1]; g.Count != 1 || g.Service != "10.0.0.7:6379" {
		t.Errorf("the oldest of the others is %+v", g)
	}

	// One more, none any more, and a new one.
	now := Groups(Find([]Socket{all[0], all[0], all[0], all[3], leak(2, 80, 0)}, holders))
	groups, by := Growth(before, now)
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
	if last := groups[len(groups)-1]; last.Count != 0 || last.Why != "gone" {
		t.Errorf("the last is %+v", last)
	}
}

func TestAtLeast(t *testing.T) {
	found := Find([]Socket{
		{State: events.CloseWait, LastHeard: time.Minute}, {State: events.CloseWait}, {State: events.LastAck},
	}, nil)
	if all, left := AtLeast(found, 0); len(all) != 3 || left != 0 {
		t.Errorf("%d and %d without a limit", len(all), left)
	}
	if old, left := AtLeast(found, 60000); len(old) != 1 || left != 2 {
		t.Errorf("%d and %d with one", len(old), left)
	}
}
