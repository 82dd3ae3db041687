package stuck

import (
	"net/netip"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

func TestHistory(t *testing.T) {
	fin := func(inode uint64, at time.Duration) *events.Event {
		return &events.Event{
			Kind: events.KindPeerFIN, Netns: 1, Inode: inode, Local: here, Remote: there, MonoNS: uint64(at), After: events.CloseWait,
		}
	}
	mapped := fin(9, 3*time.Second)
	mapped.Local = netip.AddrPortFrom(netip.AddrFrom16(here.Addr().As16()), here.Port())
	var h History
	for _, ev := range []*events.Event{fin(5, time.Second), fin(6, 2*time.Second), fin(0, time.Second), mapped} {
		h.Add(ev)
	}
	h.Add(&events.Event{Kind: events.KindDone, Netns: 1, Inode: 7, Local: here, Remote: there, MonoNS: 1, After: events.Close})

	at := func(inode uint64, state events.State) Socket {
		return Socket{Netns: 1, Inode: inode, Local: here, Remote: there, State: state}
	}
	elsewhere, other, traced := at(5, events.CloseWait), at(5, events.CloseWait), at(5, events.CloseWait)
	elsewhere.Netns, other.Remote, traced.InState = 2, here, time.Minute
	tests := []struct {
		name   string
		socket Socket
		want   time.Duration
	}{
		{"as on record", at(5, events.CloseWait), 9 * time.Second},
		{"another one of the same addresses", at(6, events.CloseWait), 8 * time.Second},
		{"IPv4 by a socket of IPv6", at(9, events.CloseWait), 7 * time.Second},
		{"a later one of the same addresses", at(8, events.CloseWait), 0},
		{"without a file", at(0, events.CloseWait), 0},
		{"it has moved on", at(5, events.LastAck), 0},
		{"of another event", at(7, events.Close), 0},
		{"in another namespace", elsewhere, 0},
		{"of other addresses", other, 0},
		{"seen by ourselves", traced, time.Minute},
	}
	for _, tt := range tests {
		all := []Socket{tt.socket}
		if h.Fill(all, uint64(10*time.Second)); all[0].InState != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, all[0].InState, tt.want)
		}
	}
	var none History
	none.Fill([]Socket{at(5, events.CloseWait)}, 1)
}
