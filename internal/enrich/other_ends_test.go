package enrich

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sockets"
)

// The other end of a connection that a RST ended is named if it is open, and surely is the other end.
func TestOtherEnds(t *testing.T) {
	const (
		client    = "0109090A:D431" // 10.9.9.1:54321
		server    = "0209090A:1776" // 10.9.9.2:6006
		mapped    = "0000000000000000FFFF00000109090A:D431"
		remote    = "0000000000000000FFFF00000209090A:1776"
		open      = "01"
		closeWait = "08"
		timeWait  = "06"
		victim    = 5 // its network namespace
	)
	for name, tt := range map[string]struct {
		tables map[uint32]string // by network namespace
		local  string            // of the victim, if it is another
		want   uint32            // the namespace of what is found
	}{
		"in the same namespace":      {tables: map[uint32]string{victim: row(server, client, open, "77")}, want: victim},
		"half closed":                {tables: map[uint32]string{victim: row(server, client, closeWait, "77")}, want: victim},
		"of an IPv6 socket":          {tables: map[uint32]string{victim: row(remote, mapped, open, "77")}, want: victim},
		"in another":                 {tables: map[uint32]string{victim: "", 6: row(server, client, open, "77")}, want: 6},
		"in two":                     {tables: map[uint32]string{victim: "", 6: row(server, client, open, "77"), 7: row(server, client, open, "78")}},
		"of another connection":      {tables: map[uint32]string{victim: "", 6: row(server, client, open, "77"), 7: row(client, server, open, "78")}},
		"the addresses again":        {tables: map[uint32]string{victim: row(server, client, open, "77") + row(client, server, open, "78")}},
		"it may have sent one":       {tables: map[uint32]string{victim: row(server, client, timeWait, "0")}},
		"another port":               {tables: map[uint32]string{victim: row(server, "0109090A:D432", open, "77")}},
		"no table of the namespace":  {tables: map[uint32]string{6: row(server, client, open, "77")}},
		"too many sockets":           {tables: map[uint32]string{victim: strings.Repeat(row(client, server, timeWait, "0"), 10000) + row(server, client, open, "77")}},
		"not here":                   {tables: map[uint32]string{victim: "", 6: ""}},
		"lo of another is not there": {tables: map[uint32]string{victim: "", 6: row("0100007F:1776", "0100007F:D431", open, "77")}, local: "127.0.0.1:54321"},
	} {
		dirs := map[uint32]string{}
		for netns, text := range tt.tables {
			dirs[netns] = filepath.Join(t.TempDir(), "net")
			if err := os.MkdirAll(dirs[netns], 0o755); err != nil {
				t.Fatal(err)
			}
			file := "tcp"
			if strings.Contains(text, "FFFF0000") {
				file = "tcp6"
				if err := os.WriteFile(filepath.Join(dirs[netns], "tcp"), []byte(tableHead), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dirs[netns], file), []byte(tableHead+text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		now, lost := time.Unix(1, 0), false
		o := NewOtherEnds(nil, func(netns uint32) string { return dirs[netns] }, func() map[uint32]string { return dirs },
			func() bool { return lost }, nil)
		o.now = func() time.Time { return now }
		o.owner = func(inode uint64) *events.Task { return &events.Task{PID: uint32(inode)} }
		reset := events.Event{
			Kind: events.KindDone, Netns: victim, SockErr: 104, Before: events.Established,
			Local: netip.MustParseAddrPort("10.9.9.1:54321"), Remote: netip.MustParseAddrPort("10.9.9.2:6006"),
		}
		if tt.local != "" {
			reset.Local, reset.Remote = netip.MustParseAddrPort(tt.local), netip.MustParseAddrPort("127.0.0.1:6006")
		}
		look := func(ev events.Event) *events.OtherEnd {
			now = now.Add(time.Minute)
			o.Resolve(&ev)
			return ev.OtherEnd
		}
		got := look(reset)
		if (got != nil) != (tt.want != 0) || got != nil && (got.Netns != tt.want || got.Owner.PID != 77) {
			t.Errorf("%s: got %+v", name, got)
		}
		for why, change := range map[string]func(*events.Event){
			"a timeout":   func(ev *events.Event) { ev.SockErr = 110 },
			"in SYN_RECV": func(ev *events.Event) { ev.Before = events.SynRecv },
			"a reply":     func(ev *events.Event) { ev.Kind = events.KindReply },
		} {
			other := reset
			if change(&other); look(other) != nil {
				t.Errorf("%s: %s is looked up", name, why)
			}
		}
		lost = true
		if look(reset) != nil {
			t.Errorf("%s: found although a RST may be lost", name)
		}
		lost = false
		again, soon := look(reset), reset
		if o.Resolve(&soon); (again != nil) != (got != nil) || soon.OtherEnd != nil {
			t.Errorf("%s: the rate is not limited", name)
		}
		if o.dirs = nil; tt.want != victim && look(reset) != nil {
			t.Errorf("%s: found in a namespace that a filter hides", name)
		}
	}
}

// Looking takes a small share of the time, however many sockets there are.
func TestOtherEndsShare(t *testing.T) {
	now, looks := time.Unix(1, 0), 0
	o := NewOtherEnds(nil, func(uint32) string { looks++; now = now.Add(time.Second); return "" }, nil,
		func() bool { return false }, nil)
	o.now = func() time.Time { return now }
	for range 3 * scanShare {
		o.Resolve(&events.Event{Kind: events.KindDone, SockErr: 104, Before: events.Established})
		now = now.Add(time.Second)
	}
	if looks != 3 {
		t.Errorf("%d looks of a second each in %d seconds", looks, 3*scanShare)
	}
}

// In closetrace's own network namespace the kernel is asked for the sockets, and /proc is read only if it does not
// answer.
func TestOwnSockets(t *testing.T) {
	here, there := netip.MustParseAddrPort("10.9.9.1:54321"), netip.MustParseAddrPort("10.9.9.2:6006")
	open := sockets.Socket{Local: there, Remote: here, State: events.Established, Inode: 77}
	interrupted := errors.New("interrupted")
	for name, tt := range map[string]struct {
		answer   []sockets.Socket
		err      error
		want     bool
		fromProc bool
	}{
		"open":            {answer: []sockets.Socket{open}, want: true},
		"none":            {},
		"another space":   {err: errors.New("another namespace"), fromProc: true},
		"not all visited": {answer: []sockets.Socket{open}, err: interrupted},
	} {
		var asked [][2]uint16
		own := func(netns uint32, local, remote uint16, visit func(*sockets.Socket) bool) error {
			asked = append(asked, [2]uint16{local, remote})
			for _, s := range tt.answer {
				if netns == 5 && s.Local.Port() == local && (remote == 0 || s.Remote.Port() == remote) {
					visit(&s)
				}
			}
			return tt.err
		}
		fromProc := false
		dir := func(uint32) string { fromProc = true; return "" }
		task := func(inode uint64) *events.Task { return &events.Task{PID: uint32(inode)} }
		o := NewOtherEnds(own, dir, nil, func() bool { return false }, nil)
		c := NewConnections(own, dir, nil)
		o.owner, c.owner = task, task
		reset := events.Event{
			Kind: events.KindDone, Netns: 5, SockErr: 104, Before: events.Established, Local: here, Remote: there,
		}
		o.Resolve(&reset)
		if found := reset.OtherEnd; (found != nil) != tt.want || found != nil && found.Owner.PID != 77 {
			t.Errorf("%s: other end %+v", name, found)
		}
		reply := events.Event{
			Kind: events.KindReply, Netns: 5, SegmentFlags: 0x18,
			Local: there, Remote: netip.MustParseAddrPort("10.9.9.3:6006"),
		}
		c.Resolve(&reply)
		if found := reply.OtherRemote; found.IsValid() != tt.want || tt.want && found != here {
			t.Errorf("%s: connection %v", name, found)
		}
		if fromProc != tt.fromProc {
			t.Errorf("%s: read /proc: %v", name, fromProc)
		}
		if tt.err == nil && !slices.Equal(asked, [][2]uint16{{6006, 54321}, {54321, 6006}, {6006, 0}}) {
			t.Errorf("%s: asked for ports %v", name, asked)
		}
	}
}

// Looking for a connection takes a small share of the time as well.
func TestConnectionsShare(t *testing.T) {
	now, looks := time.Unix(1, 0), 0
	c := NewConnections(nil, func(uint32) string { looks++; now = now.Add(time.Second); return "" }, nil)
	c.now = func() time.Time { return now }
	reply := events.Event{Kind: events.KindReply, SegmentFlags: 0x10}
	for range 100 {
		now = now.Add(time.Second)
		c.Resolve(&reply)
	}
	if looks != 2 {
		t.Errorf("%d looks of a second in 100 s, want 2", looks)
	}
}
